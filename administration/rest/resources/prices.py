"""The deployment's own prices, and what other currencies are worth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.utils import timezone
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from administration.rest import filters
from administration.rest.members import Amount, Members, Moment, Text, Whole, number
from administration.rest.resource import Added, Listed, Removed, written
from keys.models import Customer, Team, VirtualKey
from usage import own_prices
from usage.models import ExchangeRate, Price
from usage.price_tables import PER_MILLION, PER_REQUEST, Sets
from usage.rates import RATES

MOST_PRICE = Decimal(10) ** 13
MOST_PERCENT = Decimal(10_000)
OWNERS = {"customer_id": Customer, "team_id": Team, "virtual_key_id": VirtualKey}


def price(help_text: str) -> Amount:
    """A price, which a row may leave as it is."""
    return Amount(most=MOST_PRICE, required=False, allow_null=True, help_text=help_text)


class PriceMembers(Members):
    """A price of the deployment's own, in USD per million tokens (`web_search` and `flat`: USD per request). It has
    prices of its own, or a `percent` that is added to the others."""

    id = Whole(read_only=True)
    sets = ChoiceField(
        choices=Sets.values,
        required=False,
        help_text="`cost`: what the provider charges us (the default). `charge`: what the owner pays.",
    )
    provider = Text(required=False, allow_blank=True, max_length=20, help_text="Empty: any provider.")
    model = Text(help_text="Name or pattern (claude-*).")
    customer_id = number(required=False, allow_null=True, help_text="For the calls of this customer.")
    team_id = number(required=False, allow_null=True, help_text="For the calls of this team.")
    virtual_key_id = number(required=False, allow_null=True, help_text="For the calls of this virtual key.")
    valid_from = Moment(required=False, help_text="Now or later; left out: now.")
    valid_to = Moment(required=False, allow_null=True, help_text="Null: until a later row of the same rank.")
    input = price(PER_MILLION)
    output = price(PER_MILLION)
    cache_read = price(PER_MILLION)
    cache_write_5m = price(PER_MILLION)
    cache_write_1h = price(PER_MILLION)
    web_search = price(f"{PER_REQUEST} If all five prices of tokens are given and this one is left out: 0.")
    flat = price("USD for each request, besides its tokens.")
    percent = Amount(
        signed=True,
        most=MOST_PERCENT,
        required=False,
        allow_null=True,
        help_text="Added to all prices: 20 is a mark-up of 20 %, -15 a discount of 15 %.",
    )
    note = Text(required=False, allow_blank=True)


class EndMembers(Members):
    """When a price ends."""

    valid_to = Moment(required=False, help_text="Now or later; left out: now.")


class Prices(Listed, Added, Removed):
    """The deployment's own prices. A price is never changed: add a newer one, or end it. One that doesn't apply yet can
    be removed."""

    scope = "prices"
    noun = "prices"
    queryset = Price.objects.all()
    serializer_class = PriceMembers
    newest_first = True
    filters: ClassVar = {
        "model": filters.by_text("model"),
        "provider": filters.by_text("provider"),
        "customer_id": filters.by_id("customer"),
        "team_id": filters.by_id("team"),
        "virtual_key_id": filters.by_id("virtual_key"),
        "sets": filters.by_choice("sets", list(Sets.values)),
    }

    def add(self, values: dict[str, Any]) -> Price:
        """Save a new price.

        Raises:
            ValidationError: it is for several owners, or for one that doesn't exist.
        """
        owners = {name: values.pop(name) for name in OWNERS if values.get(name) is not None}
        if len(owners) > 1:
            raise ValidationError("Give at most one of customer_id, team_id and virtual_key_id.")
        if all(values.get(name) is not None for name in RATES):
            values.setdefault("web_search", Decimal(0))
        row = Price(
            **{"valid_from": timezone.now()} | {name: each for name, each in values.items() if name not in OWNERS}
        )
        self.require("add", row)
        for name, pk in owners.items():
            setattr(row, name.removesuffix("_id"), self.chosen(OWNERS[name], pk, name))
        own_prices.add(row)
        return row

    def remove(self, row: Price) -> None:
        """Withdraw a price that doesn't apply yet."""
        self.require("delete", row)
        own_prices.withdraw(row)

    @action(detail=True, methods=["post"], takes=EndMembers)
    @written
    def end(self, request: Request, pk: Any) -> Response:
        """Let it end now, or at a later time. Calls that were made keep their cost."""
        values = self.taken()
        row = self.row(locked=True)
        self.require("change", row)
        own_prices.end(row, values.get("valid_to"))
        return self.shown(self.again(row.pk))


class ExchangeRateMembers(Members):
    """What one USD is worth in another currency, from a time on until the next rate of that currency."""

    id = Whole(read_only=True)
    currency = Text(max_length=3, help_text="ISO 4217, such as EUR.")
    valid_from = Moment(required=False, help_text="Now or later; left out: now.")
    rate = Amount(most=Decimal(10) ** 9, help_text="How much of the currency one USD is.")
    source = Text(help_text="Where the rate is from.")  # type: ignore[assignment]


class ExchangeRates(Listed, Added, Removed):
    """What other currencies are worth, for statements. A rate is never changed: add a newer one. One that doesn't apply
    yet can be removed."""

    scope = "prices"
    noun = "exchange rates"
    queryset = ExchangeRate.objects.all()
    serializer_class = ExchangeRateMembers
    newest_first = True
    filters: ClassVar = {"currency": filters.by_text("currency")}

    def add(self, values: dict[str, Any]) -> ExchangeRate:
        """Save a new exchange rate."""
        row = ExchangeRate(**{"valid_from": timezone.now()} | values)
        self.require("add", row)
        own_prices.add_rate(row)
        return row

    def remove(self, row: ExchangeRate) -> None:
        """Withdraw a rate that doesn't apply yet."""
        self.require("delete", row)
        own_prices.withdraw(row)
