"""Holds that outlive processes."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0004_price_revision")]
    operations: ClassVar = [
        migrations.AlterField("hold", "process", models.UUIDField(db_index=True, null=True)),
        migrations.AddField("hold", "expires_at", models.DateTimeField(null=True)),
    ]
