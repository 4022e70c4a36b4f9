"""Names are free again once what had them is revoked, and two owners may use the same: those of virtual keys within a
team (or a customer), those of gateway tokens within a virtual key."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0012_provider_key_checks")]
    operations: ClassVar = [
        migrations.AlterField("virtualkey", "name", models.CharField(db_index=True, max_length=200)),
        migrations.AddConstraint(
            "virtualkey",
            models.UniqueConstraint(
                condition=Q(revoked_at=None),
                fields=("customer", "team", "name"),
                name="keys_virtualkey_name",
                nulls_distinct=False,
            ),
        ),
        # Its name was what kept the gateway from having two of it.
        migrations.AddConstraint(
            "virtualkey",
            models.UniqueConstraint(
                condition=Q(passthrough=True), fields=("passthrough",), name="keys_virtualkey_passthrough"
            ),
        ),
        migrations.RemoveConstraint("credential", "keys_token_name"),
        migrations.AddConstraint(
            "credential",
            models.UniqueConstraint(
                condition=Q(kind="gateway_token", revoked_at=None),
                fields=("virtual_key", "name"),
                name="keys_token_name",
            ),
        ),
    ]
