"""Admin pages for prices of our own. What has been recorded stays as it was priced."""

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
from keys.lists import Listed
from usage import export
from usage.models import Price
from usage.pricing import WEB_SEARCH

# Of a price: what tokens cost, and in which units.
PRICES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
UNIT = "USD per million tokens"
SEARCH_UNIT = "USD per request"


class PriceForm(ModelForm):  # type: ignore[type-arg]
    """A new price. It can't reach back: what was recorded stays as it was priced."""

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
        """The moment it is to win from, no earlier than now; that the form was open for a while is no mistake.

        Raises:
            ValidationError: it is more than a day ago.
        """
        now = timezone.now()
        given: datetime = self.cleaned_data["valid_from"] or now
        if given < now - timedelta(days=1):
            raise ValidationError("A price can't reach back: give a time from now on.")
        return max(given, now)


def price_column(name: str) -> Callable[[Price], str]:
    """A column of the list: the amount without the zeros at its end."""

    @admin.display(description=name.replace("_", " "), ordering=name)
    def shown(row: Price) -> str:
        return f"${export.money(getattr(row, name))}"

    return shown


@admin.register(Price)
class PriceAdmin(Listed):
    """Our own prices. A row is never edited once it is valid: a newer one takes over."""

    form = PriceForm
    empty = "List prices are in force: add prices of your own, negotiated ones or those of private models."
    about = f"Prices of tokens are in {UNIT}, those of web searches in {SEARCH_UNIT}."
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
        """Its provider, or that it is for any."""
        return row.provider or "any"
