"""The rows of a report: sums of calls by bucket and group, as Anthropic's API counts and orders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from administration.analytics.queries import ORDERS, OURS, WIDTHS, Query, floor
from keys.model_names import fold
from usage.questions import MOST_ROWS as MOST_SUMS
from usage.questions import Every, Line, Question, ask
from usage.rates import STANDARD_TIERS
from usage.splits import CATEGORIES

TOKENS = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens"),
    *("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens"),
)
USAGE = ("calls", *TOKENS, "web_search_requests")
COST = ("calls", "charge", "charge_split")
# What a row of costs has besides its requests: the amount, and its parts.
AMOUNTS = ("amount", *CATEGORIES, "rest")
EVERY: dict[str | None, Every | None] = {"1h": "hour", "1d": "day", None: None}

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of a group in a bucket.

    Attributes:
        start, end: of the bucket.
        group: the value of each dimension of `Query.groups` that calls have here, as answers have it.
        values: `USAGE`, or `requests` and `AMOUNTS`.
    """

    start: datetime
    end: datetime
    group: Mapping[str, str | None]
    values: Values

    def metric(self, name: str) -> Any:
        """What rows are ordered by."""
        if name == "total_tokens":
            return sum(self.values[each] for each in TOKENS)
        ours = {"requests": "calls", "uncached_input_tokens": "input_tokens", "list_amount": "amount"}
        return self.values[ours.get(name, name)]

    @property
    def place(self) -> tuple[Any, ...]:
        """The order of rows that are alike in everything else."""
        return self.start, [(value is not None, value or "") for value in self.group.values()]


def rows_of(query: Query, until: datetime, user: Any) -> list[Row]:
    """All rows, in order, of what a person may see.

    Raises:
        Unusable: the answer would read too many sums, or can't be made now.
    """
    found: dict[tuple[datetime, tuple[str | None, ...]], Values] = {}
    if not query.matches_nothing:
        for line in ask(_question(query, until), user).lines:
            start = floor(line.since, WIDTHS[query.width]) if query.width else query.since
            values = dict(zip(query.dimensions, line.group, strict=True))
            group = tuple(_shown(OURS[name], values[OURS[name]]) for name in _grouped(query))
            sums = _usage(line) if query.report == "usage" else _amounts(line)
            before = found.get((start, group))
            found[start, group] = sums if before is None else {name: before[name] + sums[name] for name in sums}
    if not found and not query.groups and not query.width:
        # The sum of a range is a row even if nothing is in it.
        found[query.since, ()] = dict.fromkeys(USAGE, 0) if query.report == "usage" else _nothing()
    rows = [
        Row(
            start,
            start + WIDTHS[query.width] if query.width else until,
            dict(zip(_grouped(query), group, strict=True)),
            values,
        )
        for (start, group), values in found.items()
    ]
    return _ordered(query, rows)


def _question(query: Query, until: datetime) -> Question:
    return Question(
        query.since,
        until,
        every=EVERY[query.width],
        by=query.dimensions,
        where=query.where,
        measures=USAGE if query.report == "usage" else COST,
        most_rows=MOST_SUMS,
    )


def _grouped(query: Query) -> list[str]:
    return [name for name in query.groups if name in OURS]


def _shown(dimension: str, value: Any) -> str | None:
    """The value of a dimension as answers have it."""
    match dimension:
        case "key" | "team":
            return None if value is None else f"{'apikey' if dimension == 'key' else 'wrkspc'}_{value}"
        case "service_tier":
            return "standard" if fold(value) in STANDARD_TIERS else str(value)
        case "speed":
            return str(value) or "standard"
    return str(value) or None


def _usage(line: Line) -> Values:
    return {name: int(line.values[name]) for name in USAGE}


def _amounts(line: Line) -> Values:
    return {"calls": int(line.values["calls"]), "amount": line.values["charge"], **line.split("charge")}


def _nothing() -> Values:
    return {"calls": 0, **dict.fromkeys(AMOUNTS, Decimal(0))}


def _ordered(query: Query, rows: list[Row]) -> list[Row]:
    """The rows in the order that is asked for. Rows that are alike have an order, too: pages depend on it."""
    rows.sort(key=lambda row: row.place)
    metric = ORDERS[query.report][0] if query.order_by == "time" else query.order_by
    by_time = query.order_by == "time" and query.width is not None
    rows.sort(key=lambda row: row.metric(metric), reverse=query.descending or by_time)
    if by_time:
        rows.sort(key=lambda row: row.start, reverse=query.descending)
    return rows
