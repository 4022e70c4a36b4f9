"""Money by category of tokens, and what caching saved. No I/O.

Without a cache, its reads would have been input. What a token of input costs is computed from what was recorded: the
input's part of the amount, by the input tokens. So own prices, batches and tiers are in it, as they were on average. It
is the price of the same line and model, or of the model in the whole range where the line has no input. Where there is
no such price either, nothing is saved, and the reads are counted as `unpriced_reads`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from usage.measures import ARRAYS, FURTHER_MONEY
from usage.questions import Line
from usage.splits import CATEGORIES, PLACES

NONE = Decimal(0)
INPUT, CACHE_READ = CATEGORIES.index("input"), CATEGORIES.index("cache_read")
READS = "cache_read_input_tokens"
# What the price of input is computed from, and what is summed by category.
OF_PRICE = ("input_tokens", "cost_split", "charge_split")
PRICED = (*("calls", "cost", "charge", "input_tokens", READS, "cost_split", "charge_split"), *FURTHER_MONEY)


def parts(values: Mapping[str, Any], amount: str) -> dict[str, Decimal]:
    """An amount by category, with the `rest` that belongs to none; the parts are the amount, to the last digit."""
    by = {name: _part(values, amount, at) for at, name in enumerate(CATEGORIES)}
    return by | {"rest": (values.get(amount) or NONE) - sum(by.values(), NONE)}


def _part(values: Mapping[str, Any], amount: str, at: int) -> Decimal:
    split = values.get(f"{amount}_split") or ()
    return (split[at] if at < len(split) else None) or NONE


def input_price(values: Mapping[str, Any], amount: str) -> Decimal | None:
    """What a token of input costs, in USD; None: there was none, or what it cost isn't recorded."""
    tokens, cost = values.get("input_tokens") or 0, _part(values, amount, INPUT)
    return cost / tokens if tokens > 0 and cost > 0 else None


def by_group(of: Iterable[Line], amount: str, prices: Mapping[str, Decimal | None]) -> list[Line]:
    """Lines whose last dimension is the model, added up over models, each with what caching `saved`.

    Args:
        prices: of a token of input, by model, where a line has none.
    """
    groups: dict[tuple[datetime, tuple[Any, ...]], list[Mapping[str, Any]]] = {}
    for line in of:
        values = with_saved(line.values, amount, prices.get(line.group[-1]))
        groups.setdefault((line.since, line.group[:-1]), []).append(values)
    return [Line(since, group, added(each)) for (since, group), each in groups.items()]


def with_saved(values: Mapping[str, Any], amount: str, price: Decimal | None) -> dict[str, Any]:
    """The sums of one model, with what caching `saved`.

    Args:
        price: of a token of input, if these sums say none.
    """
    reads, own = values.get(READS) or 0, input_price(values, amount)
    price = price if own is None else own
    if price is None or not reads:
        return {**values, "saved": NONE, "unpriced_reads": reads}
    saved = (reads * price - _part(values, amount, CACHE_READ)).quantize(PLACES)
    return {**values, "saved": saved, "unpriced_reads": 0}


def added(of: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several lines' values."""
    total: dict[str, Any] = {}
    for values in of:
        for name, value in values.items():
            if name not in ARRAYS:
                total[name] = total.get(name, 0) + (value or 0)
            elif value:
                sums = total.setdefault(name, [0] * ARRAYS[name])
                total[name] = [one + (value[at] or 0 if at < len(value) else 0) for at, one in enumerate(sums)]
    return total
