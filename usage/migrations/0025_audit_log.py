"""The audit log watches budgets, limits, top-ups, overrides, prices and the targets of alerts."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

from keys.audit.watched import Watched, unwatch, watch

OWNER = {"virtual_key_id": "keys_virtualkey", "team_id": "keys_team", "customer_id": "keys_customer"}
OF_OWNER = "customer_id team_id virtual_key_id provider_key_id model_patterns active deleted_at"

TABLES = {
    "usage_budget": Watched(plain=f"{OF_OWNER} unit amount period rolling enforcement thresholds", belongs=OWNER),
    "usage_limit": Watched(plain=f"{OF_OWNER} kind rate burst count_cached", belongs=OWNER),
    # Who the author is says the event itself.
    "usage_topup": Watched(plain="budget_id amount reason", belongs={"budget_id": "usage_budget"}),
    "usage_override": Watched(
        plain="budget_id amount starts_at until windows reason", belongs={"budget_id": "usage_budget"}
    ),
    "usage_price": Watched(
        plain="provider model valid_from input output cache_read cache_write_5m cache_write_1h web_search note"
    ),
    "usage_alerttarget": Watched(
        plain="channel customer_id active predates_address_checks",
        contacts="address",
        secrets="secret_ciphertext",
        belongs={"customer_id": "keys_customer"},
    ),
}


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0018_audit_log"),
        ("usage", "0024_plain_words"),
    ]

    operations: ClassVar = [
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
    ]
