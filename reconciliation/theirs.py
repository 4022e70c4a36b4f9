"""Their side: what a provider's report says, by hour (or day), key, model and mode.

Where a report has costs by day only, a day's amount for a type of tokens is spread over its hours by their tokens, so
that the hours sum exactly to the day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from reconciliation.freshness import DAY, HOUR
from reconciliation.modes import mode_of, name_of
from reconciliation.reads import TOKEN_TYPES, CostRow, Read, Report, UsageRow
from reconciliation.reports.rows import EXACT

ZERO = Decimal(0)
PLACES = Decimal(1).scaleb(-28)


@dataclass(slots=True)
class Theirs:
    """Requests (None: not reported), tokens and USD. `listed`: before discounts, None if the report doesn't say."""

    requests: int | None = None
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_TYPES, 0))
    amounts: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(TOKEN_TYPES, ZERO))
    listed: dict[str, Decimal] | None = None
    fees: Decimal = ZERO

    @property
    def amount(self) -> Decimal:
        """What it charges, with fees."""
        return add(self.token_amount, self.fees)

    @property
    def token_amount(self) -> Decimal:
        """What it charges for tokens."""
        return total(self.amounts.values())


# A reported key, an hour or day, a model and a mode.
Spot = tuple[str, datetime, str, str]
Spots = dict[Spot, Theirs]


def add(one: Decimal, other: Decimal) -> Decimal:
    """A sum with all its digits."""
    return EXACT.add(one, other)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """A sum with all its digits."""
    found = ZERO
    for each in amounts:
        found = EXACT.add(found, each)
    return found


@dataclass(slots=True)
class Reported:
    """A report of one day.

    Attributes:
        usage, costs: the beginnings of the hours or days that were read.
        spots: the figures, for what was read of both.
    """

    usage: set[datetime] = field(default_factory=set)
    costs: set[datetime] = field(default_factory=set)
    daily_costs: bool = False
    spots: Spots = field(default_factory=dict)

    def has(self, hour: datetime) -> bool:
        """Whether usage and costs of an hour were read."""
        return hour in self.usage and (hour in self.costs or (self.daily_costs and bool(self.costs)))


def of_day(reads: QuerySet[Read], start: datetime) -> tuple[Reported, Reported]:
    """The report of the day that begins then, as it was first read, and as it was last read.

    Args:
        reads: those of one source.
    """
    known = list(reads.filter(start__gte=start, start__lt=start + DAY).order_by("id"))
    first, last = choose(known, first=True), choose(known, first=False)
    reported = of_reads(last, start)
    same = {read.rows_of for read in first} == {read.rows_of for read in last}
    return (reported if same else of_reads(first, start)), reported


def of_reads(chosen: list[Read], start: datetime) -> Reported:
    """What these reads of a day say."""
    hourly = any(read.report == Report.COST and read.end - read.start == HOUR for read in chosen)
    if hourly:
        # Days were read while only the older reports could be: hours replace them.
        chosen = [read for read in chosen if read.end - read.start == HOUR]
    found = Reported(daily_costs=not hourly)
    for read in chosen:
        (found.usage if read.report == Report.USAGE else found.costs).add(read.start)
    of_rows = {read.rows_of: read for read in chosen}
    for used in UsageRow.objects.filter(read__in=of_rows):
        spot = found.spots.setdefault(spot_of(used), Theirs(requests=0))
        spot.requests = None if spot.requests is None or used.requests is None else spot.requests + used.requests
        for name in TOKEN_TYPES:
            spot.tokens[name] += getattr(used, name)
    costs = list(CostRow.objects.filter(read__in=of_rows))
    if hourly:
        for row in costs:
            put(found.spots.setdefault(spot_of(row), Theirs()), row.token_type, row.amount, row.list_amount)
    else:
        spread(found.spots, costs, start)
    return found


def choose(reads: Iterable[Read], *, first: bool) -> list[Read]:
    """The first or the last read of each hour or day, of reads in their order."""
    found: dict[tuple[str, datetime, datetime], Read] = {}
    for read in reads:
        key = (read.report, read.start, read.end)
        if not first or key not in found:
            found[key] = read
    return list(found.values())


def spot_of(row: Any) -> Spot:
    """What a row is about, in our names."""
    return (row.api_key_id, row.start, name_of(row.model), mode_of(vars(row)))


def put(spot: Theirs, token_type: str, amount: Decimal, listed: Decimal | None) -> None:
    """Add an amount."""
    if not token_type:
        spot.fees = add(spot.fees, amount)
        return
    spot.amounts[token_type] = add(spot.amounts[token_type], amount)
    if listed is not None:
        spot.listed = spot.listed or dict.fromkeys(TOKEN_TYPES, ZERO)
        spot.listed[token_type] = add(spot.listed[token_type], listed)


def spread(spots: Spots, costs: list[CostRow], start: datetime) -> None:
    """Give each hour its part of the day's costs. What no hour has tokens for stays at the day's beginning."""
    sums: dict[tuple[str, str, str, str, str], Decimal] = defaultdict(Decimal)
    for row in costs:
        _, _, model, mode = spot_of(row)
        key = (row.api_key_id, model, mode, row.token_type, "" if row.token_type else row.meter)
        sums[key] = add(sums[key], row.amount)
    for (api_key_id, model, mode, token_type, _), amount in sums.items():
        shares = [
            (spot, theirs.tokens[token_type])
            for spot, theirs in spots.items()
            if token_type
            and theirs.tokens[token_type]
            and (spot[2], spot[3]) == (model, mode)
            and (not api_key_id or spot[0] == api_key_id)
        ]
        if not shares:
            put(spots.setdefault((api_key_id, start, model, mode), Theirs()), token_type, amount, None)
            continue
        whole, left = sum(tokens for _, tokens in shares), amount
        for spot, tokens in sorted(shares)[:-1]:
            part = EXACT.quantize(EXACT.divide(EXACT.multiply(amount, Decimal(tokens)), Decimal(whole)), PLACES)
            left = EXACT.subtract(left, part)
            put(spots[spot], token_type, part, None)
        put(spots[max(shares)[0]], token_type, left, None)
