"""How a range of time is put together from quarters of hours, hours, days and months, of which some are taken away.

A month in Berlin is a month of UTC with an hour before it and without its last hour: three sums, not a month of hours.
So sums are exact in every time zone, and few rows are read. All moments are in UTC here. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# The grains of time, the finest first. `quarter`: of an hour.
GRAINS = ("quarter", "hour", "day", "month")
QUARTER = timedelta(minutes=15)
LENGTHS = {"quarter": QUARTER, "hour": timedelta(hours=1), "day": timedelta(days=1)}

# Whether sums of a day or month (by grain and beginning) are there.
Has = Callable[[str, datetime], bool]


@dataclass(frozen=True, slots=True)
class Piece:
    """Periods of one grain that follow each other: added to a range (`sign` 1), or taken away from it (-1)."""

    grain: str
    since: datetime
    until: datetime
    sign: int = 1


def beginning(moment: datetime, grain: str) -> datetime:
    """The beginning of the period of a moment."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if grain == "quarter":
        return hour + (moment - hour) // QUARTER * QUARTER
    if grain == "hour":
        return hour
    day = hour.replace(hour=0)
    return day.replace(day=1) if grain == "month" else day


def after(start: datetime, grain: str) -> datetime:
    """The beginning of the next period."""
    return beginning(start + timedelta(days=32), "month") if grain == "month" else start + LENGTHS[grain]


def each(grain: str, first: datetime, last: datetime) -> Iterator[datetime]:
    """The beginnings of the periods that have something of a time, both ends included."""
    start = beginning(first, grain)
    while start <= last:
        yield start
        start = after(start, grain)


def cover(since: datetime, until: datetime, grains: Sequence[str], has: Has, sign: int = 1) -> Iterator[Piece]:
    """The pieces of a range whose ends are at quarters of an hour.

    Args:
        grains: those that can be used, the finest first.
        has: which days and months can be used.
    """
    *finer, grain = grains
    if since >= until:
        return
    if not finer:
        yield Piece(grain, since, until, sign)
        return
    start, end = _nearest(since, grain, has, later=False), _nearest(until, grain, has, later=True)
    if start >= end:
        yield from cover(since, until, finer, has, sign)
        return
    yield from _correction(start - since, since, start, finer, has, sign)
    run = start
    for period in each(grain, start, end - QUARTER):
        if not has(grain, period):
            if run < period:
                yield Piece(grain, run, period, sign)
            run = after(period, grain)
            yield from cover(period, run, finer, has, sign)
    if run < end:
        yield Piece(grain, run, end, sign)
    yield from _correction(until - end, end, until, finer, has, sign)


def _correction(
    missing: timedelta, one: datetime, other: datetime, finer: Sequence[str], has: Has, sign: int
) -> Iterator[Piece]:
    """What is missing between two moments is added; what is too much is taken away."""
    if missing > timedelta(0):
        yield from cover(one, other, finer, has, sign)
    else:
        yield from cover(other, one, finer, has, -sign)


def _nearest(moment: datetime, grain: str, has: Has, *, later: bool) -> datetime:
    """The boundary of periods that is nearest to a moment.

    Args:
        later: it ends a range. A period of which only a part is in the range must be there.
    """
    start = beginning(moment, grain)
    if start == moment:
        return moment
    end = after(start, grain)
    whole = has(grain, start)
    if later:
        return end if whole and end - moment < moment - start else start
    return start if whole and moment - start <= end - moment else end


def merged(pieces: Iterator[Piece]) -> list[Piece]:
    """Pieces in order, of which those that follow each other are one."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: (each.grain, each.sign, each.since)):
        last = found[-1] if found else None
        if last is not None and (last.grain, last.sign, last.until) == (piece.grain, piece.sign, piece.since):
            found[-1] = Piece(last.grain, last.since, piece.until, last.sign)
        else:
            found.append(piece)
    return found
