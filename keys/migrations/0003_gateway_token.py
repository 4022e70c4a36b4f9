"""A proxy of its own, so that gateway tokens have their own pages and permissions."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0002_revisions")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="GatewayToken",
            fields=[],
            options={"verbose_name": "gateway token", "proxy": True, "indexes": [], "constraints": []},
            bases=("keys.credential",),
        )
    ]
