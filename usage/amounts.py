"""Amounts as people write them: $50.00, $0.0031. Every page and list shows them through this module."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from keys import viewer

NONE = "–"
# Digits after the point of an amount below one dollar, and how many digits of a smaller one are shown.
PLACES, DIGITS = 4, 2


def usd(amount: Decimal | None) -> str:
    """An amount of USD in the viewer's locale.

    From one dollar on, it has cents. Below, it has up to four decimal places; if these are all zero, two digits.
    """
    if amount is None:
        return NONE
    size = abs(amount)
    places = 2 if size >= 1 or not size else max(PLACES, DIGITS - 1 - size.adjusted())
    if size < 1 and size.adjusted() >= -PLACES:
        places = PLACES
    rounded = size.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    while places > 2 and not rounded.as_tuple().digits[-1]:
        places -= 1
        rounded = rounded.quantize(Decimal(1).scaleb(-places))
    return f"{'-' if amount < 0 else ''}${viewer.number(rounded, places)}"
