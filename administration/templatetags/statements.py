"""Filters for amounts in a statement's currency: `{% load statements %}{{ total|in_currency:"EUR" }}`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import template

from billing.currencies import places, rounded
from billing.formats.pdf import CATEGORIES
from billing.models import LineKind
from keys import viewer
from usage import amounts

register = template.Library()


@register.filter
def in_currency(amount: Decimal, currency: str) -> str:
    """An amount with its currency, in the viewer's locale: `1,234.50 EUR`."""
    return f"{viewer.number(rounded(amount, currency), places(currency))} {currency}"


@register.filter
def about(line: Any) -> str:
    """What a line of a draft or document is about, in words."""
    if line.kind == LineKind.ADJUSTMENT:
        return str(line.reason)
    return CATEGORIES.get(line.category) or LineKind(line.kind).label


@register.filter
def exact_price(amount: Decimal | None) -> str:
    """A price in USD; a dash for None."""
    return amounts.NONE if amount is None else amounts.price(amount)
