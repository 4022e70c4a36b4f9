"""Why a key was revoked, which the audit log shows, and an index by which keys that expire soon are found."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

from keys.audit.watched import Watched, unwatch, watch

BEFORE = (
    "customer_id team_id active expires_at revoked_at cut_streams_at allowed_models denied_models "
    "fallback_models adaptive_weights labels passthrough max_tokens default_max_tokens"
)


def key(plain: str) -> dict[str, Watched]:
    """How virtual keys are watched."""
    belongs = {"team_id": "keys_team", "customer_id": "keys_customer"}
    return {"keys_virtualkey": Watched(plain=plain, names="name owner", belongs=belongs)}


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0019_audit_speed")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="virtualkey",
            name="revoke_reason",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
        ),
        migrations.AddIndex(
            model_name="virtualkey",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False), ("revoked_at", None)),
                fields=["expires_at"],
                name="keys_vk_expiry",
            ),
        ),
        migrations.RunSQL(
            unwatch(["keys_virtualkey"]) + "\n" + watch(key(f"{BEFORE} revoke_reason")),
            unwatch(["keys_virtualkey"]) + "\n" + watch(key(BEFORE)),
        ),
    ]
