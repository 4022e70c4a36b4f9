"""Currencies: their codes, and how many digits an amount has after its point (ISO 4217, list one of 2026-01-01)."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal

from django.core.exceptions import ValidationError

# The codes of currencies without a minor unit, and of those with a thousandth as theirs.
WITHOUT = re.compile("BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|UYI|VND|VUV|XAF|XOF|XPF")
WITH_THREE = re.compile("BHD|IQD|JOD|KWD|LYD|OMR|TND")


def check_currency(code: str) -> None:
    """Refuse what can't be a code.

    Raises:
        ValidationError: it isn't three capital letters.
    """
    if not re.fullmatch("[A-Z]{3}", code):
        raise ValidationError("Enter the three capital letters of ISO 4217, such as EUR.")


def places(currency: str) -> int:
    """Digits after the point."""
    return 0 if WITHOUT.fullmatch(currency) else 3 if WITH_THREE.fullmatch(currency) else 2


def rounded(amount: Decimal, currency: str) -> Decimal:
    """An amount in a currency's minor unit, half-even. Zero has no sign."""
    return amount.quantize(Decimal(1).scaleb(-places(currency)), ROUND_HALF_EVEN) + 0
