"""Sums of roll-ups by levels (usage/levels.py)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0037_rollup_dimensions")]

    operations: ClassVar = [
        migrations.RunSQL((SQL / "levels.sql").read_text(), "DROP TABLE usage_levelsum"),
        migrations.CreateModel(
            name="SummedPeriod",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "level", "start", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("level", models.CharField(max_length=20)),
                ("start", models.DateTimeField()),
            ],
            options={"default_permissions": ()},
        ),
    ]
