"""What each category of a call's tokens costs: the parts of which its cost and its charge are the sum. No I/O.

A split is a list of USD by `CATEGORIES`; it may leave out categories at its end that cost nothing. What it doesn't
cover of an amount is `rest`: all of it for rows from before splits were recorded, and what an estimate has in addition
to its tokens. So the parts and the rest are always the amount, to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

# The order of a split, also in the database: a category is only ever added at the end.
CATEGORIES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search", "flat")
NONE = Decimal(0)
PLACES = Decimal("0.000000000001")

Split = list[Decimal]


def added(one: Sequence[Decimal], other: Sequence[Decimal], sign: int = 1) -> Split:
    """The sum of two splits, or their difference with a sign of -1."""
    longer = max(len(one), len(other))
    return [(one[n] if n < len(one) else NONE) + sign * (other[n] if n < len(other) else NONE) for n in range(longer)]


def rounded(split: Sequence[Decimal], total: Decimal) -> Split:
    """A split with the ledger's decimal places, whose sum is the rounded total. The largest part takes what is left."""
    parts = [part.quantize(PLACES) for part in split]
    parts[parts.index(max(parts, key=abs))] += total - sum(parts)
    return parts


def trimmed(split: Split) -> Split | None:
    """A split without the categories at its end that cost nothing; None if all cost nothing. It changes the list."""
    while split and not split[-1]:
        split.pop()
    return split or None
