"""Ranges of days: those with a name, and the range before another one. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)
# A calendar's parts by their length in months.
MONTH, QUARTER, YEAR = 1, 3, 12


@dataclass(frozen=True, slots=True)
class Days:
    """Days in a row, the last one included."""

    first: date
    last: date

    @property
    def count(self) -> int:
        """How many days they are."""
        return (self.last - self.first).days + 1


def month_of(day: date, months: int = 0) -> date:
    """The first day of a day's month, or of the month that many months later."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _so_far(months: int) -> Callable[[date], Days]:
    """From the beginning of the calendar's part of this length until today."""
    return lambda today: Days(month_of(today, -((today.month - 1) % months)), today)


@dataclass(frozen=True, slots=True)
class Preset:
    """A range with a name. `length`: the months of the calendar's part that it is of; 0: it is of days."""

    title: str
    days: Callable[[date], Days]
    length: int = 0


PRESETS = {
    "this_month": Preset("this month", _so_far(MONTH), MONTH),
    "last_month": Preset("last month", lambda today: Days(month_of(today, -1), month_of(today) - DAY), MONTH),
    "last_7_days": Preset("last 7 days", lambda today: Days(today - 6 * DAY, today)),
    "last_30_days": Preset("last 30 days", lambda today: Days(today - 29 * DAY, today)),
    "today": Preset("today", lambda today: Days(today, today)),
    "yesterday": Preset("yesterday", lambda today: Days(today - DAY, today - DAY)),
    "this_quarter": Preset("this quarter", _so_far(QUARTER), QUARTER),
    "this_year": Preset("this year", _so_far(YEAR), YEAR),
}


def before(days: Days, length: int = 0) -> Days:
    """The range before: of whole months, as many months; of a part of the calendar that isn't over, the same days of
    the part before; else as many days.

    Args:
        length: the months of that part of the calendar; 0: none.
    """
    following = days.last + DAY
    if days.first.day == following.day == 1:
        months = (following.year - days.first.year) * 12 + following.month - days.first.month
        return Days(month_of(days.first, -months), days.first - DAY)
    if length:
        first = month_of(days.first, -length)
        return Days(first, min(first + (days.count - 1) * DAY, days.first - DAY))
    return Days(days.first - days.count * DAY, days.first - DAY)
