"""What roll-ups measure: counts, money, the parts of money by category, and histograms of latency.

A histogram is an array with a number for each class of latency: class n has what took at least `BOUNDS[n - 1]` and less
than `BOUNDS[n]` milliseconds. Arrays are added element by element; an element that nothing was added to is null, which
needs no space.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from usage.splits import CATEGORIES
from usage.tokens import TOKEN_COLUMNS

# Milliseconds, about evenly on a scale of logarithms: a percentile is off by a fifth at most where calls usually are.
BOUNDS = (
    *(50, 100, 150, 200, 300, 400, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_000),
    *(10_000, 15_000, 20_000, 30_000, 45_000, 60_000, 120_000, 300_000, 600_000),
)
CLASSES = len(BOUNDS) + 1

# What the pages of owners and providers read.
MEASURES = ("calls", "estimated_calls", *TOKEN_COLUMNS, "cost", "charge")
# Calls by what is unusual about them: without a known price; that went wrong by our, the caller's or the provider's
# fault; whose time was taken (`duration_ms` and `first_byte_ms` are their sums).
FURTHER_COUNTS = (
    *("unpriced_calls", "our_errors", "caller_errors", "provider_errors"),
    *("timed_calls", "duration_ms", "first_byte_ms"),
)
# Parts of the amounts: of calls that are an estimate, and of calls that had no known price.
FURTHER_MONEY = ("estimated_cost", "estimated_charge", "unpriced_cost", "unpriced_charge")
# Arrays with their lengths.
HISTOGRAMS = {"durations": CLASSES, "first_bytes": CLASSES}
ARRAYS = {"cost_split": len(CATEGORIES), "charge_split": len(CATEGORIES), **HISTOGRAMS}
ALL_MEASURES = (*MEASURES, *FURTHER_COUNTS, *FURTHER_MONEY, *ARRAYS)


def value(row: str, measure: str) -> str:
    """A measure of a row, as SQL. One without a charge, as all were before there were charges, costs its owner what the
    provider charges."""
    return f"coalesce({row}.charge, {row}.cost)" if measure == "charge" else f"{row}.{measure}"


def elements(measure: str, element: str) -> str:
    """An array with this expression for each element, as SQL; `#` stands for its number."""
    kind = "bigint" if measure in HISTOGRAMS else "numeric"
    values = ", ".join(element.replace("#", str(number)) for number in range(1, ARRAYS[measure] + 1))
    return f"ARRAY[{values}]::{kind}[]"


def sum_of(measure: str, sign: str = "") -> str:
    """The sum of a measure over rows `f`, as SQL.

    Args:
        sign: what each value is multiplied by, such as `s.sign * `.
    """
    if measure in ARRAYS:
        summed = elements(measure, f"sum({sign}f.{measure}[#])")
        return f"CASE WHEN count(f.{measure}) > 0 THEN {summed} END"
    return f"sum({sign}{value('f', measure)})"


def sums_of(measures: Sequence[str]) -> dict[str, str]:
    """The sum of each of these measures."""
    return {name: sum_of(name) for name in measures}


def plus(measure: str) -> str:
    """What is in a row `t` and what is added to it, as SQL."""
    if measure not in ARRAYS:
        return f"{value('t', measure)} + excluded.{measure}"
    one, other = f"t.{measure}", f"excluded.{measure}"
    both = elements(measure, f"coalesce({one}[#] + {other}[#], {one}[#], {other}[#])")
    return f"CASE WHEN {one} IS NULL THEN {other} WHEN {other} IS NULL THEN {one} ELSE {both} END"


def percentile(histogram: Sequence[int | None] | None, part: float) -> float | None:
    """The latency in milliseconds that this part of the calls (0.95: 95 %) doesn't exceed, from a histogram; within a
    class, calls are taken for evenly spread. None: there are none."""
    counts = [count or 0 for count in histogram or ()]
    left = sum(counts) * part
    if left <= 0:
        return None
    edges = (0, *BOUNDS, 2 * BOUNDS[-1])
    for number, count in enumerate(counts):
        if count and left <= count:
            return edges[number] + (edges[number + 1] - edges[number]) * left / count
        left -= count
    return float(edges[-1])


def class_of(milliseconds: int) -> int:
    """The number of a latency's class, from 0."""
    return bisect_right(BOUNDS, milliseconds)
