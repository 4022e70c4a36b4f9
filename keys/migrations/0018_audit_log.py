"""The audit log (keys/sql/audit.sql), which watches the tables of keys, and those of users and groups."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

from keys.audit.watched import Watched, unwatch, watch

SQL = Path(__file__).resolve().parent.parent / "sql" / "audit.sql"
BACKWARD = """
DROP TABLE keys_auditevent, keys_auditname, keys_auditseal;
DROP FUNCTION keys_audit_unwatch, keys_audit_watch, keys_audit_record, keys_audit_shown, keys_audit_host,
    keys_audit_note, keys_audit_refuse_change;
"""

TABLES = {
    "keys_gateway": Watched(plain="paused"),
    "keys_customer": Watched(plain="name paused time_zone fiscal_year_month language"),
    "keys_team": Watched(
        plain="name customer_id paused max_tokens default_max_tokens", belongs={"customer_id": "keys_customer"}
    ),
    "keys_providerkey": Watched(
        plain=(
            "name provider predates_address_checks region project model_patterns active connect_seconds "
            "first_byte_seconds between_bytes_seconds total_seconds retry_unanswered"
        ),
        urls="base_url",
        secrets="secret_ciphertext",
    ),
    "keys_modelalias": Watched(plain="name target"),
    "keys_virtualkey": Watched(
        plain=(
            "customer_id team_id active expires_at revoked_at cut_streams_at allowed_models denied_models "
            "fallback_models adaptive_weights labels passthrough max_tokens default_max_tokens"
        ),
        names="name owner",
        belongs={"team_id": "keys_team", "customer_id": "keys_customer"},
    ),
    "keys_virtualkeyroute": Watched(
        plain="virtual_key_id provider_key_id weight", belongs={"virtual_key_id": "keys_virtualkey"}
    ),
    "keys_credential": Watched(
        plain="kind virtual_key_id expires_at revoked_at",
        names="name",
        secrets="digest",
        belongs={"virtual_key_id": "keys_virtualkey"},
    ),
    "auth_user": Watched(
        plain="is_active is_staff is_superuser", names="username first_name last_name email", secrets="password"
    ),
    "auth_group": Watched(plain="name"),
    "auth_group_permissions": Watched(plain="group_id permission_id", belongs={"group_id": "auth_group"}),
    "auth_user_groups": Watched(plain="user_id group_id", belongs={"user_id": "auth_user"}),
    "auth_user_user_permissions": Watched(plain="user_id permission_id", belongs={"user_id": "auth_user"}),
}


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("keys", "0017_plain_words"),
    ]

    operations: ClassVar = [
        migrations.RunSQL(SQL.read_text(), BACKWARD),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(verbose_name="time")),
                ("actor_kind", models.TextField()),
                ("actor_id", models.BigIntegerField(null=True)),
                ("actor", models.TextField()),
                ("address", models.TextField(verbose_name="from where")),
                ("action", models.TextField()),
                ("table_name", models.TextField(verbose_name="table")),
                ("object", models.TextField()),
                ("about", models.TextField()),
                ("changes", models.JSONField()),
            ],
            options={
                "verbose_name": "audit event",
                "db_table": "keys_auditevent",
                "ordering": ["-id"],
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="AuditName",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("table_name", models.TextField()),
                ("object", models.TextField()),
                ("about", models.TextField()),
                ("column_name", models.TextField()),
                ("value", models.TextField()),
            ],
            options={"db_table": "keys_auditname", "managed": False, "default_permissions": ()},
        ),
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("made_at", models.DateTimeField()),
                ("last_event", models.BigIntegerField()),
                ("events", models.IntegerField()),
                ("leaves", models.BinaryField()),
                ("digest", models.TextField()),
            ],
            options={"db_table": "keys_auditseal", "ordering": ["number"], "managed": False, "default_permissions": ()},
        ),
    ]
