"""Admin pages for the deployment's own prices and for exchange rates. A new price never changes the cost of recorded
calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ChoiceField, ModelForm
from django.http import HttpRequest
from django.utils import timezone

from keys import provider_kinds, viewer
from keys.admin_lists import Listed
from keys.errors import Unusable
from keys.forms import refusals_shown
from usage import amounts, own_prices
from usage.models import ExchangeRate, Price
from usage.price_tables import Sets
from usage.rates import RATES

# What a row may set, and the units that pages show.
PRICES = (*RATES, "web_search", "flat")
UNIT = "USD per million tokens"
SEARCH_UNIT = "USD per request"


class PriceForm(ModelForm):  # type: ignore[type-arg]
    """A new price. It can't start in the past: recorded calls keep their cost."""

    sets = ChoiceField(choices=Sets.choices, required=False, initial=Sets.COST)
    provider = ChoiceField(choices=lambda: [("", "any"), *provider_kinds.choices()], required=False)

    class Meta:
        model = Price
        fields = (
            *("sets", "provider", "model", "customer", "team", "virtual_key", "valid_from", "valid_to"),
            *(*PRICES, "percent", "note"),
        )

    def clean_sets(self) -> str:
        return self.cleaned_data["sets"] or Sets.COST

    def clean_valid_from(self) -> datetime:
        with refusals_shown():
            return own_prices.start(self.cleaned_data["valid_from"])


def price_column(name: str) -> Callable[[Price], str]:
    """A column of the list that shows a price."""

    @admin.display(description=name.replace("_", " "), ordering=name)
    def shown(row: Price) -> str:
        price = getattr(row, name)
        return "" if price is None else amounts.price(price)

    return shown


class Dated(Listed):
    """Rows that can't be edited once they apply: add a newer one instead."""

    actions: Any = None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or not own_prices.applies(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and obj is not None and not own_prices.applies(obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = {"valid_from": timezone.now().replace(microsecond=0)}
        return initial | super().get_changeform_initial_data(request)


@admin.register(Price)
class PriceAdmin(Dated):
    """The deployment's own prices."""

    form = PriceForm
    title = "Own prices"
    empty = "List prices apply. Add your own, such as negotiated prices, mark-ups or prices of private models."
    about = (
        f"Token prices are in {UNIT}, searches and flat prices in {SEARCH_UNIT}. Of the rows that fit a call, the one "
        "for the virtual key wins, then team, customer, all; then one for a provider; then the longest pattern."
    )
    list_display = (
        "model",
        "provider_shown",
        "sets_shown",
        "owner",
        "valid_from",
        "valid_to",
        "percent_shown",
        *(price_column(name) for name in PRICES),
        "note",
    )
    list_select_related = ("customer", "team__customer", "virtual_key__customer", "virtual_key__team__customer")
    autocomplete_fields = ("customer", "team", "virtual_key")
    fieldsets: ClassVar = [
        (
            "Whose price",
            {
                "fields": ("sets",),
                "description": (
                    "Cost is what the provider charges us: enter what a contract says. Charge is what the owner pays, "
                    "and what budgets count: enter a mark-up, or prices of your own. Without a charge, owners pay the "
                    "cost."
                ),
            },
        ),
        ("For which calls", {"fields": ("provider", "model", "customer", "team", "virtual_key")}),
        ("When", {"fields": ("valid_from", "valid_to")}),
        (
            "A percentage",
            {
                "fields": ("percent",),
                "description": "Of the list price, or for a charge, of the cost. With no price below.",
            },
        ),
        (f"Or prices of tokens, in {UNIT}", {"fields": RATES}),
        (f"For each request, in {SEARCH_UNIT}", {"fields": ("web_search", "flat")}),
        (None, {"fields": ("note",)}),
    ]
    list_filter = ("provider", "sets")
    search_fields = ("model", "note")
    actions = ("end_now",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Whether this person may end prices."""
        return super().has_change_permission(request)

    @admin.action(description="End now", permissions=["end"])
    def end_now(self, request: HttpRequest, rows: QuerySet[Price]) -> None:
        """Let prices end now. Calls that were made keep their cost."""
        for row in rows:
            try:
                own_prices.end(row)
                self.message_user(request, f"Price {row.pk} ({row}) has ended.", messages.SUCCESS)
            except Unusable as error:
                self.message_user(request, f"Price {row.pk} ({row}): {error}", messages.ERROR)

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        own_prices.add(obj)

    @admin.display(description="provider", ordering="provider")
    def provider_shown(self, row: Price) -> str:
        """The provider, or `any`."""
        return row.provider or "any"

    @admin.display(description="sets", ordering="sets")
    def sets_shown(self, row: Price) -> str:
        """Cost or charge."""
        return row.sets

    @admin.display(description="for")
    def owner(self, row: Price) -> str:
        """Whose calls it is for."""
        return row.is_for

    @admin.display(description="%", ordering="percent")
    def percent_shown(self, row: Price) -> str:
        """The percentage with its sign."""
        return "" if row.percent is None else f"{row.percent.normalize():+f} %"


@admin.register(ExchangeRate)
class ExchangeRateAdmin(Dated):
    """What other currencies are worth. Only statements use them."""

    title = "Exchange rates"
    empty = "Everything is in USD. Add what a USD is worth in the currencies of your statements."
    about = "How much of the currency one USD is. Calls and budgets are in USD: only statements use these rates."
    list_display = ("currency", "valid_from", "rate_shown", "source")
    fields = ("currency", "valid_from", "rate", "source")
    list_filter = ("currency",)
    search_fields = ("currency", "source")

    def save_model(self, request: HttpRequest, obj: ExchangeRate, form: Any, change: bool) -> None:
        own_prices.add_rate(obj)

    @admin.display(description="rate", ordering="rate")
    def rate_shown(self, row: ExchangeRate) -> str:
        """The rate, exactly."""
        exact = row.rate.normalize()
        return viewer.number(row.rate, max(2, -int(exact.as_tuple().exponent)))
