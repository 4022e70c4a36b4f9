"""Filters for templates: `{% load amounts %}{{ spent|usd }} in {{ calls|count }} calls`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import template
from django.utils.formats import date_format
from django.utils.timezone import localtime

from keys import viewer
from usage import amounts, exhausted

register = template.Library()


@register.filter
def usd(amount: Decimal | None) -> str:
    """See `usage.amounts.usd`."""
    return amounts.usd(amount)


@register.filter
def left(amount: Decimal | None) -> str:
    """See `usage.amounts.left`."""
    return amounts.left(amount)


@register.filter
def refusing(budget: Any, form: str) -> str:
    """What is said of a budget that has refused a call (`usage.exhausted`), with its moment in Django's format."""
    allowed = getattr(budget, "allowed", None)
    since = date_format(localtime(budget.exhausted_since), form)
    return exhausted.in_words(since, budget.left, budget.amount if allowed is None else allowed)


@register.filter
def price(amount: Decimal) -> str:
    """See `usage.amounts.price`."""
    return amounts.price(amount)


@register.simple_tag
def viewer_locale() -> str:
    """See `keys.viewer.locale`."""
    return viewer.locale()


@register.filter
def count(value: int) -> str:
    """A whole number in the viewer's locale, with thousands grouped."""
    return viewer.number(value)
