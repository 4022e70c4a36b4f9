"""Alerts about roll-ups that differ from the ledger: they belong to no budget and no key."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0033_repricing")]

    operations: ClassVar = [
        migrations.RemoveConstraint(model_name="alert", name="usage_alert_of_one"),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                fields=["start"],
                name="usage_alert_miscounted_once",
                condition=Q(budget=None, virtual_key=None, provider_key=None),
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=Q(budget=None, virtual_key=None)
                | Q(virtual_key=None, provider_key=None)
                | Q(budget=None, provider_key=None),
                name="usage_alert_of_one_at_most",
            ),
        ),
    ]
