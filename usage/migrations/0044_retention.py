"""Checkpoints, archived months, and what they need of the ledger's triggers (usage/sql/retention.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"
OPTIONS = {"default_permissions": ()}


def amount() -> Any:
    return models.DecimalField(decimal_places=12, max_digits=38)


def key(*columns: str) -> models.CompositePrimaryKey:
    return models.CompositePrimaryKey(*columns, blank=True, editable=False, primary_key=True, serialize=False)


def number() -> Any:
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0043_saved_reports")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("id", number()),
                ("made_at", models.DateTimeField()),
                ("below_xid", models.TextField()),
                ("windows", models.BigIntegerField(help_text="how many it has")),
                ("previous_hash", models.CharField(blank=True, max_length=64)),
                ("hash", models.CharField(max_length=64)),
            ],
            options=OPTIONS,
        ),
        migrations.CreateModel(
            name="CheckpointWindow",
            fields=[
                ("pk", key("budget", "start", "checkpoint")),
                ("budget", models.BigIntegerField()),
                ("start", models.DateTimeField()),
                ("checkpoint", models.BigIntegerField(db_index=True)),
                ("spent", amount()),
                ("held", amount()),
            ],
            options=OPTIONS,
        ),
        migrations.CreateModel(
            name="ArchivedMonth",
            fields=[
                ("month", models.DateField(help_text="its first day", primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("exported", "Exported"),
                            ("detached", "detached, and kept as a table"),
                            ("dropped", "Dropped"),
                        ],
                        max_length=20,
                    ),
                ),
                ("first_id", models.UUIDField()),
                ("end_id", models.UUIDField()),
                (
                    "since",
                    models.DateTimeField(
                        help_text="the admission of its first row, or its beginning if that is earlier"
                    ),
                ),
                (
                    "until",
                    models.DateTimeField(help_text="after the admission of its last row, or its end if that is later"),
                ),
                ("below_xid", models.TextField(help_text="of the checkpoint that it is behind")),
                ("folder", models.TextField()),
                ("manifest", models.JSONField()),
                ("archived_at", models.DateTimeField()),
                ("archived_by", models.CharField(max_length=200)),
            ],
            options={**OPTIONS, "ordering": ["month"]},
        ),
        migrations.CreateModel(
            name="ArchivedCharge",
            fields=[
                ("pk", key("month", "budget", "start")),
                ("month", models.DateField()),
                ("budget", models.BigIntegerField()),
                ("start", models.DateTimeField()),
                ("amount", amount()),
            ],
            options=OPTIONS,
        ),
        migrations.RunSQL((SQL / "retention.sql").read_text(), (SQL / "before_retention.sql").read_text()),
    ]
