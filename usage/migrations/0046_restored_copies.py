"""Restored copies, which take no calls until they are activated, and numbers of transactions that outlive a server
(usage/sql/restored_copies.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"

# The numbers of transactions stay: what is stored goes by them.
UNDONE = "DROP TRIGGER usage_keep_copy_paused ON keys_gateway; DROP FUNCTION usage_keep_copy_paused();"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0044_retention"), ("keys", "0001_initial")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="RestoredCopy",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("restored_at", models.DateTimeField()),
                ("taken_at", models.DateTimeField(help_text="when the backup was made", null=True)),
                ("was_paused", models.BooleanField(default=False, help_text="whether the gateway was paused then")),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunSQL((SQL / "restored_copies.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "waiting_copies.sql").read_text(), UNDONE),
    ]
