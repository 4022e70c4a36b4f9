"""What documents cover of archived months (billing/archived_covers.py)."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0002_closed"), ("usage", "0044_retention")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="ArchivedCover",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField()),
                ("team", models.BigIntegerField(null=True)),
                ("calls", models.BigIntegerField()),
                ("adjustments", models.BigIntegerField()),
                (
                    "owed",
                    models.DecimalField(decimal_places=12, help_text="USD that the owner pays for both", max_digits=38),
                ),
                (
                    "cover",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="archived", to="billing.cover"
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("cover", "month", "team"), name="billing_archivedcover_once", nulls_distinct=False
                    )
                ],
            },
        ),
    ]
