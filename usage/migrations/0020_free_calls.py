"""Free calls are counted by day instead of having ledger rows, and a virtual key's revision moves with its limits
(usage/sql/free_limits.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "free_limits.sql"
BACKWARD = "DROP TRIGGER usage_limit_revision ON usage_limit; DROP FUNCTION usage_touch_limited"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0013_virtual_key_names"), ("usage", "0019_model_names")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="FreeCalls",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("endpoint", models.CharField(max_length=40)),
                ("status", models.CharField(max_length=30)),
                ("calls", models.BigIntegerField()),
                (
                    "virtual_key",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="keys.virtualkey",
                    ),
                ),
            ],
            options={
                "verbose_name": "count of free calls",
                "verbose_name_plural": "free calls",
                "ordering": ["-day", "virtual_key", "endpoint", "status"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "virtual_key", "endpoint", "status"), name="usage_freecalls_once"
                    )
                ],
            },
        ),
        migrations.RunSQL(SQL.read_text(), BACKWARD),
    ]
