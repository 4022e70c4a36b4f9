"""What will be spent by the end of the month, with a band; and when an amount will be used up. No I/O.

A day is expected to cost the mean of the same weekday over the last eight weeks, or since there are calls, if that is
later. For the band, days are taken for independent: their variances, each that of its weekday, are added, and so is the
variance of the means. The band has the month's sum four times of five, if days go on as they were. Before there
are four weeks of days, there is no forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from math import sqrt
from statistics import fmean, variance

DAY = timedelta(days=1)
WEEKS, FEWEST_WEEKS = 8, 4
# Standard deviations around the mean that have four fifths of a normal distribution.
BAND = 1.2816


@dataclass(frozen=True, slots=True)
class Weekday:
    """What a weekday cost: the mean, the variance, and of how many days."""

    mean: float
    variance: float
    days: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """USD by the end of a month: spent so far, expected in all, and the band's ends."""

    spent: Decimal
    expected: Decimal
    low: Decimal
    high: Decimal


def history_of(today: date) -> date:
    """The first day that is looked at."""
    return today - WEEKS * 7 * DAY


def weekdays(spent: Mapping[date, Decimal], today: date) -> dict[int, Weekday] | None:
    """What each weekday (0: Monday) cost before today; None: there is too little history.

    Args:
        spent: USD by day; a day without calls may be left out.
    """
    used = [day for day, amount in spent.items() if amount and history_of(today) <= day < today]
    if not used or (today - min(used)).days < FEWEST_WEEKS * 7:
        return None
    by: dict[int, list[float]] = {number: [] for number in range(7)}
    for day in days(min(used), today):
        by[day.weekday()].append(float(spent.get(day, 0)))
    return {number: Weekday(fmean(each), variance(each), len(each)) for number, each in by.items()}


def days(first: date, end: date) -> Iterator[date]:
    """Days in a row, the last one excluded."""
    for number in range((end - first).days):
        yield first + number * DAY


def forecast(spent: Mapping[date, Decimal], today: date, first: date, end: date) -> Forecast | None:
    """The sum of a month in which today is; None: there is too little history.

    Args:
        spent: USD by day, of today too.
        first, end: the month's first day, and the day after its last one.
    """
    known = weekdays(spent, today)
    if known is None:
        return None
    so_far = sum((amount for day, amount in spent.items() if first <= day <= today), Decimal(0))
    # Today's rest is what its weekday costs beyond what today has cost already.
    rest = max(known[today.weekday()].mean - float(spent.get(today, 0)), 0.0)
    to_come = [day.weekday() for day in days(today + DAY, end)]
    expected = rest + sum(known[each].mean for each in to_come)
    spread = BAND * sqrt(_variance(known, to_come))
    return Forecast(
        so_far, so_far + _usd(expected), so_far + _usd(max(expected - spread, 0.0)), so_far + _usd(expected + spread)
    )


def _variance(known: Mapping[int, Weekday], to_come: Sequence[int]) -> float:
    found = 0.0
    for number, each in known.items():
        times = to_come.count(number)
        found += times * each.variance + times**2 * each.variance / each.days
    return found


def _usd(amount: float) -> Decimal:
    return Decimal(str(round(amount, 6)))


def pace(spent: Mapping[date, Decimal], today: date) -> dict[int, Weekday] | None:
    """What each weekday cost; with too little history, the mean of all days before today. None: there are none."""
    known = weekdays(spent, today)
    used = [day for day, amount in spent.items() if amount and history_of(today) <= day < today]
    if known is not None or not used:
        return known
    each = [float(spent.get(day, 0)) for day in days(min(used), today)]
    return dict.fromkeys(range(7), Weekday(fmean(each), 0.0, len(each)))


def used_up(
    left: Decimal, known: Mapping[int, Weekday], today: date, end: date, used_today: Decimal = Decimal(0)
) -> date | None:
    """The day on which an amount is used up if each weekday goes on as it was; None: not before `end`.

    Args:
        left: of the amount, now.
        used_today: which today's weekday is not expected to use again.
    """
    remaining = float(left)
    for day in days(today, end):
        expected = known[day.weekday()].mean
        remaining -= max(expected - float(used_today), 0.0) if day == today else expected
        if remaining <= 0:
            return day
    return None
