"""Whom to tell of alerts, and how far the telling is."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0005_calendars"),
        ("usage", "0007_arbiter"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="AlertTarget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("channel", models.CharField(choices=[("email", "e-mail"), ("webhook", "webhook")], max_length=10)),
                ("address", models.CharField(help_text="An e-mail address, or a webhook's URL.", max_length=500)),
                ("secret_ciphertext", models.BinaryField(default=b"")),
                ("active", models.BooleanField(default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        help_text="Alerts of its budgets, its teams' and its keys'. Empty: of everybody's.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="alert_targets",
                        to="keys.customer",
                    ),
                ),
            ],
            options={
                "ordering": ["address"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created_at", models.DateTimeField()),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_at", models.DateTimeField(help_text="Not to be tried before.")),
                ("delivered_at", models.DateTimeField(null=True)),
                ("given_up_at", models.DateTimeField(null=True)),
                ("problem", models.CharField(blank=True, help_text="Why the last attempt failed.", max_length=200)),
                (
                    "alert",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="deliveries", to="usage.alert"
                    ),
                ),
                (
                    "target",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="deliveries", to="usage.alerttarget"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
            },
        ),
        migrations.AddConstraint(
            model_name="alerttarget",
            constraint=models.CheckConstraint(
                condition=models.Q(("channel__in", ["email", "webhook"])), name="usage_alerttarget_channel"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("delivered_at", None), ("given_up_at", None)),
                fields=["next_at"],
                name="usage_delivery_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(fields=("alert", "target"), name="usage_delivery_once"),
        ),
    ]
