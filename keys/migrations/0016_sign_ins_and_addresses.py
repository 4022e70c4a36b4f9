"""Failures to sign in are counted, and where base URLs lead to is asked; of those that are there it was not."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0013_virtual_key_names")]
    operations: ClassVar = [
        migrations.CreateModel(
            "SignInCount",
            [
                ("subject", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("forgotten_at", models.DateTimeField(db_index=True)),
                ("succeeded_at", models.DateTimeField(null=True)),
            ],
        ),
        # True for the rows that are there, without a trigger that hears of it.
        migrations.AddField(
            "providerkey",
            "predates_address_checks",
            models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.AlterField(
            "providerkey",
            "predates_address_checks",
            models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
