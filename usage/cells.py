"""Cells of the admin's lists: amounts, bars, and cells of two lines."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models.expressions import Combinable
from django.utils.html import format_html
from django.utils.safestring import SafeString

from keys import viewer
from usage import amounts
from usage.budgets import Unit

# Relations to select for the owner of a virtual key, and for the owner of a budget or limit.
KEY_OWNER = ("virtual_key__customer", "virtual_key__team__customer")
OWNER = ("customer", "team__customer", *KEY_OWNER)


def shown(amount: Decimal | None, unit: str) -> str:
    """An amount of USD or tokens for people."""
    if amount is not None and unit == Unit.TOKENS:
        return f"{viewer.number(round(amount))} tokens"
    return amounts.usd(amount)


def what_is_left(amount: Decimal | None, unit: str) -> str:
    """What is left of an amount of USD or tokens, for people."""
    return shown(amount, unit) if unit == Unit.TOKENS else amounts.left(amount)


def part(left: Decimal, allowed: Decimal, unit: str) -> str:
    """Which part of an amount is left. It can exceed the whole amount, since adjustments give back."""
    if left > 0 and not allowed:
        return f"more than {shown(allowed, unit)}"
    return f"{f'{left / allowed:.0%}' if left > 0 else 'nothing'} of {shown(allowed, unit)}"


def two_lines(first: object, second: object) -> SafeString:
    """A list's cell: the value, and an explanation below it."""
    return format_html('{}<br><span class="explained">{}</span>', first, second)


def bar(spent: Decimal, held: Decimal, allowed: Decimal, words: str, *, exhausted: bool = False) -> SafeString:
    """A bar that shows how much of an amount is spent and held, with the same in words below."""
    whole = max(allowed, spent + held, Decimal(1).scaleb(-12))
    spent_part, held_part = (f"{max(part, Decimal(0)) / whole * 100:.2f}" for part in (spent, held))
    return format_html(
        '<svg class="bar{}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="spent" width="{}" height="8"/><rect class="held" x="{}" width="{}" height="8"/></svg>'
        '<span class="explained">{}</span>',
        " full" if exhausted or spent + held >= allowed else "",
        spent_part,
        spent_part,
        held_part,
        words,
    )


def money(name: str, heading: str = "", ordering: Combinable | str = "") -> Callable[[Any], str]:
    """A column with an amount of USD.

    Args:
        heading: instead of the field's name.
        ordering: what the list is ordered by, instead of the field.
    """

    @admin.display(description=heading or name, ordering=ordering or name)
    def shown_amount(row: Any) -> str:
        return amounts.usd(getattr(row, name))

    return shown_amount
