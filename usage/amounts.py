"""Amounts as people write them: $50.00, $0.0031. Every page and list shows them through this module."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from keys import viewer

NONE = "–"
# Digits after the point of an amount below one dollar, and how many digits of a smaller one are shown.
PLACES, DIGITS = 4, 2


def usd(amount: Decimal | None, rounding: str = ROUND_HALF_EVEN) -> str:
    """An amount of USD in the viewer's locale.

    From one dollar on, it has cents. Below, it has four decimal places, or cents if these say all; below a hundredth of
    a cent, two digits.
    """
    if amount is None:
        return NONE
    size = abs(amount)
    places = 2 if size >= 1 or not size else max(PLACES, DIGITS - 1 - size.adjusted())
    if size < 1 and size.adjusted() >= -PLACES:
        places = PLACES
    rounded = size.quantize(Decimal(1).scaleb(-places), rounding)
    if places == PLACES and not rounded * 100 % 1:
        places = 2
    return f"{'-' if amount < 0 else ''}${viewer.number(rounded, places)}"


def left(amount: Decimal | None) -> str:
    """What is left, in USD: rounded down, as in messages of refusals, so that it never seems more than it is."""
    return usd(amount, ROUND_DOWN)


def price(amount: Decimal) -> str:
    """A price, exactly: a rounded one would be another price. It has at least cents."""
    exact = amount.normalize()
    return f"${viewer.number(amount, max(2, -int(exact.as_tuple().exponent)))}"
