"""The times at which a report is sent. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from usage.saved_reports import Cadence

DAY = timedelta(days=1)


def is_day(day: date, every: str) -> bool:
    """Whether a report is sent on this day."""
    if every == Cadence.MONTH:
        return day.day == 1
    return every == Cadence.DAY or day.weekday() == 0


def moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    """A time of day in UTC. Of a time that clocks show twice, it is the first; a time that they skip is the same time
    as it would be without the change, shown an hour later."""
    return datetime.combine(day, at, zone).astimezone(UTC)


def following(after: datetime, every: str, at: time, zone: ZoneInfo) -> datetime:
    """The first time after a moment, in UTC."""
    return next(found for found in _times(after, every, at, zone, DAY) if found > after)


def latest(until: datetime, every: str, at: time, zone: ZoneInfo) -> datetime:
    """The last time that isn't after a moment, in UTC."""
    return next(found for found in _times(until, every, at, zone, -DAY) if found <= until)


def _times(about: datetime, every: str, at: time, zone: ZoneInfo, step: timedelta) -> Iterator[datetime]:
    """The times from a day before or after a moment on, in one direction."""
    begin = about.astimezone(zone).date() - step
    return (moment(day, at, zone) for number in count() if is_day(day := begin + number * step, every))
