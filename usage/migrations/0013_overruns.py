"""Calls that cost more than was held for them, and alerts about their virtual keys (see usage/sql/overruns.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "overruns.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0005_calendars"),
        ("usage", "0012_attempts"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Overrun",
            fields=[
                ("call", models.UUIDField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("cost", models.DecimalField(decimal_places=12, max_digits=30)),
                ("held", models.DecimalField(decimal_places=12, max_digits=30)),
                ("told", models.BooleanField(default=False)),
            ],
        ),
        migrations.AddField(
            model_name="alert",
            name="virtual_key",
            field=models.ForeignKey(
                db_constraint=False,
                help_text="Whose calls cost more than was held for them.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="keys.virtualkey",
            ),
        ),
        migrations.AlterField(
            model_name="alert",
            name="budget",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="alerts",
                to="usage.budget",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(fields=("virtual_key", "start"), name="usage_alert_overrun_once"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(("budget__isnull", False), ("virtual_key__isnull", False), _connector="XOR"),
                name="usage_alert_of_one",
            ),
        ),
        migrations.AddField(
            model_name="overrun",
            name="virtual_key",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="keys.virtualkey",
            ),
        ),
        migrations.AddIndex(
            model_name="overrun",
            index=models.Index(condition=models.Q(("told", False)), fields=["at"], name="usage_overrun_untold"),
        ),
        migrations.RunSQL(SQL.read_text()),
    ]
