"""What an owner pays for a call, beside what the provider charges (usage/sql/charges.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"
CHARGE: dict[str, Any] = {"decimal_places": 12, "max_digits": 30, "null": True}


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0030_totals")]

    operations: ClassVar = [
        migrations.AddField(
            "adjustment", "charge", models.DecimalField(help_text="What the owner pays, if not the cost.", **CHARGE)
        ),
        migrations.AddField(
            "rollup", "charge", models.DecimalField(help_text="What the owner pays, if not the cost.", **CHARGE)
        ),
        migrations.AddField(
            "daytotal", "charge", models.DecimalField(help_text="What the owner pays, if not the cost.", **CHARGE)
        ),
        migrations.AddField("quartertotal", "charge", models.DecimalField(**CHARGE)),
        migrations.AddField(
            "hold",
            "cost_factor",
            models.DecimalField(help_text="the part of it that the provider charges, if not all of it", **CHARGE),
        ),
        migrations.RunSQL((SQL / "charges.sql").read_text(), (SQL / "before_charges.sql").read_text()),
    ]
