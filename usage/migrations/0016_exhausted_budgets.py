"""Alerts of budgets that refuse calls (usage/sql/exhausted.sql), alerts that go to nobody, and another default for what
may come at once (usage/sql/bursts.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.core.validators
from django.db import migrations, models
from django.db.models import Q

FOLDER = Path(__file__).resolve().parent.parent / "sql"

# An alert without a target used to count as delivered. Which reason it had then is judged by the targets of today.
UNSENT = """
UPDATE usage_alert a SET delivered_at = NULL, unsent = CASE
    WHEN NOT EXISTS (SELECT FROM usage_alerttarget) THEN 'no_target'
    WHEN NOT EXISTS (SELECT FROM usage_alerttarget t WHERE t.active) THEN 'paused'
    ELSE 'others' END
WHERE a.delivered_at IS NOT NULL AND NOT EXISTS (SELECT FROM usage_delivery d WHERE d.alert_id = a.id)
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0015_aimed_models"),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name="alert",
            name="held",
            field=models.DecimalField(
                decimal_places=12,
                help_text="Of an exhausted budget, beside what was spent.",
                max_digits=30,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="needed",
            field=models.DecimalField(
                decimal_places=12,
                help_text="By the call that an exhausted budget refused.",
                max_digits=30,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="unsent",
            field=models.CharField(
                blank=True,
                choices=[
                    ("no_target", "there is no alert target"),
                    ("paused", "the alert targets that it is for are switched off"),
                    ("others", "the alert targets are for other customers"),
                    ("said", "the alert that the budget is exhausted says as much"),
                ],
                db_default="",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="alert",
            name="threshold",
            field=models.PositiveSmallIntegerField(help_text="Percent; 0 for an alert that is about no threshold."),
        ),
        migrations.AlterField(
            model_name="alert",
            name="delivered_at",
            field=models.DateTimeField(help_text="When the last of its targets had it.", null=True),
        ),
        migrations.AlterField(
            model_name="limit",
            name="burst",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="What may come at once. Empty: a sixth of the requests a minute, at least 10 and at most the "
                "rate; or a tenth of the tokens.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.RunSQL(UNSENT),
        migrations.RemoveIndex(model_name="alert", name="usage_alert_untold"),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                fields=["id"], name="usage_alert_unsent", condition=Q(("delivered_at", None), ("unsent", ""))
            ),
        ),
        migrations.RunSQL((FOLDER / "bursts.sql").read_text()),
        migrations.RunSQL((FOLDER / "exhausted.sql").read_text()),
    ]
