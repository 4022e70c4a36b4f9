"""Reads, their rows, bills and runs of adjustments are append-only, the audit log watches what people change, and a
deployment with demo data takes no admin key."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

from keys.audit.watched import Watched, unwatch, watch

APPEND_ONLY = ("read", "usagerow", "costrow", "bill", "adjustmentrun")
FUNCTION = """
CREATE FUNCTION reconciliation_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a provider has reported is append-only: a revised figure is another read';
END $$;
"""
TRIGGERS = "\n".join(
    f"CREATE TRIGGER reconciliation_{each}_append_only BEFORE UPDATE OR DELETE ON reconciliation_{each} "
    "FOR EACH ROW EXECUTE FUNCTION reconciliation_refuse_change();"
    for each in APPEND_ONLY
)
BACKWARD = "\n".join(
    f"DROP TRIGGER reconciliation_{each}_append_only ON reconciliation_{each};" for each in APPEND_ONLY
)

REAL = """
CREATE TRIGGER reconciliation_adminkey_real BEFORE INSERT OR UPDATE OF secret_ciphertext ON reconciliation_adminkey
    FOR EACH ROW EXECUTE FUNCTION keys_refuse_secret_in_demo();
"""
TABLES = {
    "reconciliation_adminkey": Watched(
        plain="name provider active requests_a_minute", urls="base_url", secrets="secret_ciphertext"
    ),
    "reconciliation_reportedkey": Watched(
        plain="api_key_id provider_key_id chosen", belongs={"admin_key_id": "reconciliation_adminkey"}
    ),
    "reconciliation_billformat": Watched(plain="name provider_key_id columns meters tokens_in_unit"),
    # Who the author is says the event itself.
    "reconciliation_bill": Watched(
        plain="filename sha256 lines first_day last_day amount",
        belongs={"format_id": "reconciliation_billformat"},
    ),
    "reconciliation_adjustmentrun": Watched(
        plain="provider_key_id since until reason calls cost charge undoes_id",
        belongs={"provider_key_id": "keys_providerkey"},
    ),
}


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("reconciliation", "0001_initial"),
        ("keys", "0023_demo_data"),
        ("usage", "0025_audit_log"),
    ]

    operations: ClassVar = [
        migrations.RunSQL(FUNCTION + TRIGGERS, f"{BACKWARD}\nDROP FUNCTION reconciliation_refuse_change;"),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
        migrations.RunSQL(REAL, "DROP TRIGGER reconciliation_adminkey_real ON reconciliation_adminkey;"),
    ]
