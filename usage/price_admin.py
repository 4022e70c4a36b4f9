"""Admin pages for the deployment's own prices. A new price never changes the cost of recorded calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.forms import ChoiceField, ModelForm
from django.http import HttpRequest
from django.utils import timezone

from keys import provider_kinds
from keys.admin_lists import Listed
from usage import amounts
from usage.models import Price
from usage.pricing import WEB_SEARCH

# The token prices of a row, and the units that pages show.
PRICES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
UNIT = "USD per million tokens"
SEARCH_UNIT = "USD per request"


class PriceForm(ModelForm):  # type: ignore[type-arg]
    """A new price. It can't start in the past: recorded calls keep their cost."""

    provider = ChoiceField(choices=lambda: [("", "any"), *provider_kinds.choices()], required=False)

    class Meta:
        model = Price
        fields = (
            "provider",
            "model",
            "valid_from",
            *PRICES,
            "web_search",
            "note",
        )
        help_texts: ClassVar = dict.fromkeys(PRICES, f"{UNIT}.") | {"web_search": f"{SEARCH_UNIT}."}

    def clean_valid_from(self) -> datetime:
        """When the price starts to apply: never before now. A time within the last day counts as now, since the form
        may have been open for a while.

        Raises:
            ValidationError: the time is more than a day ago.
        """
        now = timezone.now()
        given: datetime = self.cleaned_data["valid_from"] or now
        if given < now - timedelta(days=1):
            raise ValidationError("A price can't start in the past: enter the current or a later time.")
        return max(given, now)


def price_column(name: str) -> Callable[[Price], str]:
    """A column of the list that shows a price."""

    @admin.display(description=name.replace("_", " "), ordering=name)
    def shown(row: Price) -> str:
        return amounts.price(getattr(row, name))

    return shown


@admin.register(Price)
class PriceAdmin(Listed):
    """The deployment's own prices. A row can't be edited once it applies: add a newer one instead."""

    form = PriceForm
    empty = "List prices apply. Add your own, such as negotiated prices or prices of private models."
    about = f"Token prices are in {UNIT}, web searches in {SEARCH_UNIT}."
    list_display = (
        "model",
        "provider_shown",
        "valid_from",
        *(price_column(name) for name in (*PRICES, "web_search")),
        "note",
    )
    fieldsets: ClassVar = [
        (None, {"fields": ("provider", "model", "valid_from")}),
        (f"Tokens, in {UNIT}", {"fields": PRICES}),
        (f"Web searches, in {SEARCH_UNIT}", {"fields": ("web_search",)}),
        (None, {"fields": ("note",)}),
    ]
    list_filter = ("provider",)
    search_fields = ("model", "note")
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.valid_from > timezone.now())

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and obj is not None and obj.valid_from > timezone.now()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = {"web_search": WEB_SEARCH, "valid_from": timezone.now().replace(microsecond=0)}
        return initial | super().get_changeform_initial_data(request)

    @admin.display(description="provider", ordering="provider")
    def provider_shown(self, row: Price) -> str:
        """The provider, or `any`."""
        return row.provider or "any"
