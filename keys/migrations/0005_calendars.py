"""Where a customer's days, months and years begin."""

from __future__ import annotations

from typing import ClassVar

import django.core.validators
from django.db import migrations, models

import keys.models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0005_accounts"),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name="customer",
            name="fiscal_year_month",
            field=models.PositiveSmallIntegerField(
                db_default=1,
                default=1,
                help_text="First month of its fiscal year, 1 to 12; quarters begin with it.",
                validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(12)],
            ),
        ),
        migrations.AddField(
            model_name="customer",
            name="language",
            field=models.CharField(
                choices=[
                    ("en", "English"),
                    ("de", "Deutsch"),
                    ("fr", "Français"),
                    ("es", "Español"),
                    ("it", "Italiano"),
                    ("pt", "Português"),
                    ("nl", "Nederlands"),
                    ("pl", "Polski"),
                    ("ja", "日本語"),
                    ("zh-hans", "简体中文"),
                ],
                db_default="en",
                default="en",
                help_text="In which its callers are told why a budget or limit refuses.",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="customer",
            name="time_zone",
            field=models.CharField(
                db_default="UTC",
                default="UTC",
                help_text="IANA name (Europe/Berlin): days, months and years of its budgets begin there.",
                max_length=60,
                validators=[keys.models.check_time_zone],
            ),
        ),
        # The arbiter can't tell the time in a zone that the database doesn't know.
        migrations.RunSQL(
            "ALTER TABLE keys_customer ADD CONSTRAINT keys_customer_time_zone"
            " CHECK (timestamptz 'epoch' AT TIME ZONE time_zone IS NOT NULL)",
            "ALTER TABLE keys_customer DROP CONSTRAINT keys_customer_time_zone",
        ),
    ]
