"""Adjustments have one more reason: that calls were priced again. No table changes."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0032_price_book")]

    operations: ClassVar = [
        migrations.AlterField(
            "adjustment",
            "reason",
            models.CharField(
                max_length=30,
                choices=[
                    ("late_settlement", "settled after it was taken for interrupted"),
                    ("reconciliation", "Reconciliation"),
                    ("correction", "Correction"),
                    ("repricing", "priced again"),
                ],
            ),
        ),
    ]
