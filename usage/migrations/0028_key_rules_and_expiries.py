"""Rules for the keys of a team, which the audit log watches, and alerts about virtual keys that expire soon."""

from __future__ import annotations

from typing import Any, ClassVar

import django.db.models.deletion
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import migrations, models

from keys import patterns
from keys.audit.watched import Watched, unwatch, watch

UNSAID = "For a new key, if nothing is said."
CEILING = "A team admin can't pass it."
OPTIONAL: dict[str, Any] = {"null": True, "blank": True}
RATE = [MinValueValidator(1), MaxValueValidator(10**15)]
DAYS = [MinValueValidator(1), MaxValueValidator(3650)]
RATES = {
    "rpm": "requests a minute",
    "input_tpm": "input tokens a minute",
    "output_tpm": "output tokens a minute",
    "parallel": "calls at once",
}
RULES = {
    "usage_keyrules": Watched(
        plain=(
            "team_id period budget most_budget rpm most_rpm input_tpm most_input_tpm output_tpm most_output_tpm "
            "parallel most_parallel days most_days allowed_models"
        ),
        belongs={"team_id": "keys_team"},
    )
}


def amount(label: str, text: str) -> Any:
    return models.DecimalField(
        label, max_digits=30, decimal_places=12, validators=[MinValueValidator(0)], help_text=text, **OPTIONAL
    )


def rate(label: str, text: str) -> Any:
    return models.PositiveBigIntegerField(label, validators=RATE, help_text=text, **OPTIONAL)


def days(label: str, text: str) -> Any:
    return models.PositiveIntegerField(label, validators=DAYS, help_text=text, **OPTIONAL)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0020_revocations_and_expiries"), ("usage", "0027_ledger_indexes")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="KeyRules",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "team",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="key_rules", to="keys.team"
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        "budget period",
                        max_length=10,
                        choices=[
                            (each, each) for each in ["minute", "hour", "day", "week", "month", "quarter", "year"]
                        ],
                        default="month",
                        help_text="Of both amounts.",
                    ),
                ),
                ("budget", amount("budget (USD)", UNSAID)),
                ("most_budget", amount("highest budget (USD)", CEILING)),
                *((name, rate(label, UNSAID)) for name, label in RATES.items()),
                *((f"most_{name}", rate(f"most {label}", CEILING)) for name, label in RATES.items()),
                ("days", days("days until it expires", UNSAID)),
                ("most_days", days("most days until it expires", CEILING)),
                (
                    "allowed_models",
                    ArrayField(
                        models.CharField(max_length=200, validators=[patterns.check]),
                        default=list,
                        blank=True,
                        help_text=(
                            "Names and patterns (claude-*), separated by commas. A team admin can't allow others."
                        ),
                    ),
                ),
            ],
            options={"verbose_name": "rules for a team's keys", "verbose_name_plural": "rules for its keys"},
        ),
        migrations.RunSQL(watch(RULES), unwatch(RULES)),
        migrations.AddField(
            "alert",
            "expires_at",
            models.DateTimeField(null=True, help_text="Of a virtual key that expires soon."),
        ),
        migrations.AlterField(
            "alert",
            "threshold",
            models.PositiveSmallIntegerField(help_text="Percent, or days before an expiry; 0 for none."),
        ),
        migrations.AlterField(
            "alert",
            "virtual_key",
            models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="keys.virtualkey",
                help_text="Whose calls cost more than was held for them, or which expires soon.",
            ),
        ),
        migrations.RemoveConstraint("alert", "usage_alert_overrun_once"),
        migrations.AddConstraint(
            "alert",
            models.UniqueConstraint(
                fields=["virtual_key", "start"],
                name="usage_alert_overrun_once",
                condition=models.Q(expires_at=None),
            ),
        ),
        migrations.AddConstraint(
            "alert",
            models.UniqueConstraint(
                fields=["virtual_key", "expires_at", "threshold"],
                name="usage_alert_expiry_once",
                condition=models.Q(expires_at__isnull=False),
            ),
        ),
        migrations.AlterField(
            "delivery",
            "target",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="usage.alerttarget",
            ),
        ),
        migrations.RemoveConstraint("delivery", "usage_delivery_once"),
        migrations.AddConstraint(
            "delivery",
            models.UniqueConstraint(fields=["alert", "target"], name="usage_delivery_once", nulls_distinct=False),
        ),
    ]
