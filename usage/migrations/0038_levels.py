"""Sums of roll-ups by levels (usage/levels.py)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.contrib.postgres.fields
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0023_demo_data"), ("usage", "0037_rollup_dimensions")]

    operations: ClassVar = [
        migrations.RunSQL((SQL / "levels.sql").read_text(), "DROP TABLE usage_levelsum"),
        migrations.CreateModel(
            name="LevelSum",
            fields=[
                ("input_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("thinking_tokens", models.BigIntegerField(default=0)),
                ("cache_read_input_tokens", models.BigIntegerField(default=0)),
                ("cache_creation_5m_input_tokens", models.BigIntegerField(default=0)),
                ("cache_creation_1h_input_tokens", models.BigIntegerField(default=0)),
                ("web_search_requests", models.BigIntegerField(default=0)),
                ("cost", models.DecimalField(decimal_places=12, default=0, max_digits=30)),
                (
                    "charge",
                    models.DecimalField(
                        decimal_places=12, help_text="What the owner pays, if not the cost.", max_digits=30, null=True
                    ),
                ),
                ("calls", models.BigIntegerField(default=0)),
                ("estimated_calls", models.BigIntegerField(default=0)),
                ("unpriced_calls", models.BigIntegerField(db_default=0, default=0)),
                ("our_errors", models.BigIntegerField(db_default=0, default=0)),
                ("caller_errors", models.BigIntegerField(db_default=0, default=0)),
                ("provider_errors", models.BigIntegerField(db_default=0, default=0)),
                ("timed_calls", models.BigIntegerField(db_default=0, default=0)),
                ("duration_ms", models.BigIntegerField(db_default=0, default=0)),
                ("first_byte_ms", models.BigIntegerField(db_default=0, default=0)),
                ("estimated_cost", models.DecimalField(db_default=0, decimal_places=12, default=0, max_digits=30)),
                ("estimated_charge", models.DecimalField(db_default=0, decimal_places=12, default=0, max_digits=30)),
                ("unpriced_cost", models.DecimalField(db_default=0, decimal_places=12, default=0, max_digits=30)),
                ("unpriced_charge", models.DecimalField(db_default=0, decimal_places=12, default=0, max_digits=30)),
                (
                    "cost_split",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=12, max_digits=30), null=True, size=None
                    ),
                ),
                (
                    "charge_split",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=12, max_digits=30), null=True, size=None
                    ),
                ),
                (
                    "durations",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
                (
                    "first_bytes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "level", "bucket", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("level", models.CharField(max_length=20)),
                ("bucket", models.DateTimeField()),
                ("model", models.TextField(null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("completed", "completed"),
                            ("refused_by_provider", "refused by provider"),
                            ("failed", "failed"),
                            ("client_disconnected", "client disconnected"),
                            ("interrupted", "interrupted"),
                        ],
                        max_length=30,
                        null=True,
                    ),
                ),
                ("provider", models.TextField(null=True)),
                ("service_tier", models.TextField(null=True)),
                ("speed", models.TextField(null=True)),
                ("stream", models.BooleanField(null=True)),
                ("cost_centre", models.TextField(null=True)),
                ("project", models.TextField(null=True)),
            ],
            options={
                "db_table": "usage_levelsum",
                "managed": False,
                "default_permissions": (),
            },
        ),
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
            options={
                "default_permissions": (),
            },
        ),
    ]
