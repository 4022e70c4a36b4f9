"""Which providers there are is said by their own files (keys/provider_kinds.py), not by the table."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

import keys.provider_kinds


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0010_adaptive_weights")]
    operations: ClassVar = [
        migrations.AlterField(
            "providerkey", "provider", models.CharField(choices=keys.provider_kinds.choices, max_length=20)
        ),
        migrations.AlterField(
            "providerkey",
            "region",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Where a cloud's models are called (eu-central-1, europe-west1, global). Empty elsewhere.",
                max_length=50,
            ),
        ),
        migrations.AlterField(
            "providerkey",
            "project",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The cloud's project that is billed, if it has some. Empty: the one that the secret is for.",
                max_length=100,
            ),
        ),
    ]
