"""Virtual keys whose weights follow how their provider keys do, and how these do."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0009_places")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="virtualkey",
            name="adaptive_weights",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A provider key that fails often or is slow to answer gets fewer conversations.",
            ),
        ),
        migrations.CreateModel(
            name="Performance",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(max_length=200)),
                ("attempts", models.PositiveIntegerField()),
                ("failures", models.PositiveIntegerField()),
                ("first_byte_ms", models.FloatField(null=True, verbose_name="time to first byte (ms, median)")),
                ("share", models.FloatField()),
                ("at", models.DateTimeField()),
                (
                    "provider_key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="performances",
                        to="keys.providerkey",
                    ),
                ),
            ],
            options={
                "verbose_name": "performance of a provider key",
                "verbose_name_plural": "performance of provider keys",
                "ordering": ["provider_key__name", "model"],
                "constraints": [
                    models.UniqueConstraint(fields=("provider_key", "model"), name="keys_performance_once")
                ],
            },
        ),
    ]
