"""Own prices for owners, periods, parts of a price, requests and percentages, and what other currencies are worth.

An own price for a name at any provider used to come before a pattern's at one provider; now a named provider comes
first. Where a deployment has both, its rows keep their meaning: the price for the name is copied for that provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import django.db.models.deletion
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import migrations, models
from django.db.models.functions.datetime import Now

from keys import patterns
from keys.audit.watched import Watched, unwatch, watch

RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
PER_MILLION = "USD per million tokens. Empty: unchanged."
PER_REQUEST = "USD per request. Empty: unchanged."
TABLES = {
    "usage_price": Watched(
        plain=(
            "sets provider model customer_id team_id virtual_key_id valid_from valid_to input output cache_read "
            "cache_write_5m cache_write_1h web_search flat percent note"
        ),
        belongs={"virtual_key_id": "keys_virtualkey", "team_id": "keys_team", "customer_id": "keys_customer"},
    ),
    "usage_exchangerate": Watched(plain="currency valid_from rate source"),
}
BEFORE = {
    "usage_price": Watched(
        plain="provider model valid_from input output cache_read cache_write_5m cache_write_1h web_search note"
    ),
}
COPIED = "copied for this provider, so that it still comes before a pattern's price"


def copies(rows: Iterable[Mapping[str, Any]], fits: Callable[[str, str], bool]) -> list[dict[str, Any]]:
    """The rows for names that must be repeated for a provider, because a pattern's price for it would come first.

    Args:
        fits: whether a pattern stands for a name.
    """
    rows = list(rows)
    made = []
    for row in rows:
        if row["provider"] or "*" in row["model"]:
            continue
        providers = {
            other["provider"]
            for other in rows
            if other["provider"] and "*" in other["model"] and fits(other["model"], row["model"])
        }
        made += [dict(row) | {"provider": provider, "note": COPIED} for provider in sorted(providers)]
    return made


def keep_meanings(apps: Any, schema_editor: Any) -> None:
    """Add the copies."""
    price = apps.get_model("usage", "Price")
    names = ("provider", "model", "valid_from", *RATES, "web_search")
    price.objects.bulk_create(price(**row) for row in copies(price.objects.values(*names), patterns.stands_for))


def price_field(help_text: str) -> Any:
    return models.DecimalField(
        max_digits=20,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=help_text,
    )


def owner_field(model: str) -> Any:
    return models.ForeignKey(
        to=model, on_delete=django.db.models.deletion.PROTECT, null=True, blank=True, related_name="prices"
    )


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0021_test_key"), ("usage", "0031_charges")]

    operations: ClassVar = [
        migrations.AddField(
            "price",
            "sets",
            models.CharField(
                max_length=10,
                choices=[("cost", "cost: what the provider charges us"), ("charge", "charge: what the owner pays")],
                default="cost",
                db_default="cost",
                help_text="Cost, as a contract with the provider does, or charge, as a mark-up does.",
            ),
        ),
        migrations.AddField("price", "customer", owner_field("keys.customer")),
        migrations.AddField("price", "team", owner_field("keys.team")),
        migrations.AddField("price", "virtual_key", owner_field("keys.virtualkey")),
        migrations.AddField(
            "price",
            "valid_to",
            models.DateTimeField(null=True, blank=True, help_text="Empty: until a later row of the same rank."),
        ),
        *(migrations.AlterField("price", name, price_field(PER_MILLION)) for name in RATES),
        migrations.AlterField("price", "web_search", price_field(PER_REQUEST)),
        migrations.AddField("price", "flat", price_field("USD for each request, besides its tokens. Empty: nothing.")),
        migrations.AddField(
            "price",
            "percent",
            models.DecimalField(
                max_digits=9,
                decimal_places=4,
                null=True,
                blank=True,
                validators=[MinValueValidator(-100), MaxValueValidator(10_000)],
                help_text="Added to all prices: 20 is a mark-up of 20 %, -15 a discount of 15 %.",
            ),
        ),
        migrations.RunPython(keep_meanings, migrations.RunPython.noop),
        # What the copies leave to check would keep the table from being changed.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AddConstraint(
            "price",
            models.CheckConstraint(
                condition=models.Q(("customer", None), ("team", None))
                | models.Q(("customer", None), ("virtual_key", None))
                | models.Q(("team", None), ("virtual_key", None)),
                name="usage_price_one_owner",
                violation_error_message="A price is for a customer, a team or a virtual key, or for all of them.",
            ),
        ),
        migrations.AddConstraint(
            "price",
            models.CheckConstraint(
                condition=models.Q(("valid_to", None)) | models.Q(("valid_to__gt", models.F("valid_from"))),
                name="usage_price_period",
                violation_error_message="A price ends after it starts.",
            ),
        ),
        migrations.AddConstraint(
            "price",
            models.CheckConstraint(
                condition=models.Q(("percent", None)) | models.Q(**dict.fromkeys((*RATES, "web_search"))),
                name="usage_price_percent_alone",
                violation_error_message=(
                    "A row has prices of its own, or a percentage that is added to others; make two rows."
                ),
            ),
        ),
        migrations.AddConstraint(
            "price",
            models.CheckConstraint(
                condition=~models.Q(**dict.fromkeys((*RATES, "web_search", "flat", "percent"))),
                name="usage_price_sets_something",
                violation_error_message="Enter a price for a category, for a request, or a percentage.",
            ),
        ),
        migrations.CreateModel(
            name="ExchangeRate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "currency",
                    models.CharField(
                        max_length=3,
                        validators=[
                            RegexValidator(r"^[A-Z]{3}\Z", "Enter the three capital letters of ISO 4217, such as EUR.")
                        ],
                        help_text="ISO 4217, such as EUR.",
                    ),
                ),
                ("valid_from", models.DateTimeField(db_default=Now())),
                (
                    "rate",
                    models.DecimalField(
                        max_digits=20,
                        decimal_places=10,
                        validators=[MinValueValidator(Decimal("0.0000000001"))],
                        help_text="How much of the currency one USD is.",
                    ),
                ),
                (
                    "source",
                    models.CharField(max_length=200, help_text="Where the rate is from, such as ECB reference rate."),
                ),
            ],
            options={
                "ordering": ["currency", "-valid_from"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["currency", "valid_from"],
                        name="usage_exchangerate_once",
                        violation_error_message="This currency has a rate from that time on.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("currency", "USD"), _negated=True),
                        name="usage_exchangerate_other",
                        violation_error_message="Everything is in USD: enter another currency.",
                    ),
                ],
            },
        ),
        migrations.RunSQL(unwatch(BEFORE) + watch(TABLES), unwatch(TABLES) + watch(BEFORE)),
    ]
