"""The tables of the price book: the deployment's own prices, and what other currencies are worth.

Which row applies to a call says usage/price_rows.py; usage/own_prices.py adds and ends rows.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from keys import patterns
from keys.models import Customer, Team, VirtualKey
from usage.rates import RATES

PER_MILLION = "USD per million tokens. Empty: unchanged."
PER_REQUEST = "USD per request. Empty: unchanged."


class Sets(models.TextChoices):
    """What a row sets."""

    COST = "cost", "cost: what the provider charges us"
    CHARGE = "charge", "charge: what the owner pays"


def price_field(help_text: str) -> Any:
    """A price in USD; None: the row doesn't set it."""
    return models.DecimalField(
        max_digits=20,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=help_text,
    )


def owner_field(model: type[models.Model]) -> Any:
    """Whose calls a row is for; None: not only theirs."""
    return models.ForeignKey(model, on_delete=models.PROTECT, null=True, blank=True, related_name="prices")


class Price(models.Model):
    """A price of the deployment's own. It applies from `valid_from` until before `valid_to`; without an end, until one
    of the same rank begins. Rows are dated and never edited, because a ledger row names the price that it was priced
    with.
    """

    sets = models.CharField(
        max_length=10,
        choices=Sets,
        default=Sets.COST,
        db_default=Sets.COST,
        help_text="Cost, as a contract with the provider does, or charge, as a mark-up does.",
    )
    provider = models.CharField(max_length=20, blank=True, help_text="Empty: any provider.")
    model = models.CharField(max_length=200, validators=[patterns.check], help_text="Name or pattern (claude-*).")
    customer = owner_field(Customer)
    team = owner_field(Team)
    virtual_key = owner_field(VirtualKey)
    valid_from = models.DateTimeField(db_default=Now())
    valid_to = models.DateTimeField(null=True, blank=True, help_text="Empty: until a later row of the same rank.")
    input = price_field(PER_MILLION)
    output = price_field(PER_MILLION)
    cache_read = price_field(PER_MILLION)
    cache_write_5m = price_field(PER_MILLION)
    cache_write_1h = price_field(PER_MILLION)
    web_search = price_field(PER_REQUEST)
    flat = price_field("USD for each request, besides its tokens. Empty: nothing.")
    percent = models.DecimalField(
        max_digits=9,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(-100), MaxValueValidator(10_000)],
        help_text="Added to all prices: 20 is a mark-up of 20 %, -15 a discount of 15 %.",
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering: ClassVar = ["model", "-valid_from"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(customer=None, team=None)
                | Q(customer=None, virtual_key=None)
                | Q(team=None, virtual_key=None),
                name="usage_price_one_owner",
                violation_error_message="A price is for a customer, a team or a virtual key, or for all of them.",
            ),
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                name="usage_price_period",
                violation_error_message="A price ends after it starts.",
            ),
            models.CheckConstraint(
                condition=Q(percent=None) | Q(**dict.fromkeys((*RATES, "web_search"))),
                name="usage_price_percent_alone",
                violation_error_message=(
                    "A row has prices of its own, or a percentage that is added to others; make two rows."
                ),
            ),
            models.CheckConstraint(
                condition=~Q(**dict.fromkeys((*RATES, "web_search", "flat", "percent"))),
                name="usage_price_sets_something",
                violation_error_message="Enter a price for a category, for a request, or a percentage.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"

    @property
    def is_for(self) -> str:
        """Whose calls it is for, in words."""
        owner = self.virtual_key or self.team or self.customer
        return f"{owner._meta.verbose_name} {owner}" if owner is not None else "all"


class ExchangeRate(models.Model):
    """What one USD is worth in another currency, from a time on until the next rate of that currency. Rates are dated
    and never edited. Calls and budgets are in USD: only statements use them.
    """

    currency = models.CharField(
        max_length=3,
        validators=[RegexValidator(r"^[A-Z]{3}\Z", "Enter the three capital letters of ISO 4217, such as EUR.")],
        help_text="ISO 4217, such as EUR.",
    )
    valid_from = models.DateTimeField(db_default=Now())
    rate = models.DecimalField(
        max_digits=20,
        decimal_places=10,
        validators=[MinValueValidator(Decimal("0.0000000001"))],
        help_text="How much of the currency one USD is.",
    )
    source = models.CharField(max_length=200, help_text="Where the rate is from, such as ECB reference rate.")

    class Meta:
        ordering: ClassVar = ["currency", "-valid_from"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["currency", "valid_from"],
                name="usage_exchangerate_once",
                violation_error_message="This currency has a rate from that time on.",
            ),
            models.CheckConstraint(
                condition=~Q(currency="USD"),
                name="usage_exchangerate_other",
                violation_error_message="Everything is in USD: enter another currency.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} from {self.valid_from:%Y-%m-%d}"
