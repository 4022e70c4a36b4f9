"""For test calls of provider keys: a second hidden key of the gateway's own, and the kind of its credential."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0020_revocations_and_expiries")]
    operations: ClassVar = [
        migrations.AlterField(
            "credential",
            "kind",
            models.CharField(
                choices=[
                    ("virtual_key", "virtual key"),
                    ("gateway_token", "gateway token"),
                    ("passthrough", "provider's own key, passed through"),
                    ("test", "test calls of provider keys"),
                ],
                max_length=20,
            ),
        ),
        migrations.RemoveConstraint("virtualkey", "keys_virtualkey_passthrough"),
        migrations.AddConstraint(
            "virtualkey",
            models.UniqueConstraint(condition=Q(passthrough=True), fields=("name",), name="keys_virtualkey_own"),
        ),
    ]
