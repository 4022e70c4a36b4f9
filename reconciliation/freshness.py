"""When an hour is read again: each hour for three days, each day for 35 days, once more after that, and never again."""

from __future__ import annotations

from datetime import datetime, timedelta

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Figures may change for 30 days (docs of the Enterprise analytics reports, August 2026), and a few days are added.
HOURLY, DAILY = timedelta(days=3), timedelta(days=35)
# Reports that don't say how new their data are have them within minutes (older reports), and the hour after at latest.
SETTLING = HOUR


def is_due(end: datetime, read_at: datetime | None, now: datetime) -> bool:
    """Whether the time that ends then is to be read, if it was last read at `read_at` (None: never)."""
    if end > now:
        return False
    if read_at is None:
        return True
    age = now - end
    if age < HOURLY:
        return now - read_at >= HOUR
    if age < DAILY:
        return now - read_at >= DAY
    return not is_frozen(end, read_at)


def is_frozen(end: datetime, read_at: datetime | None) -> bool:
    """Whether the last read is the final one."""
    return read_at is not None and read_at >= end + DAILY


def is_complete(end: datetime, refreshed_at: datetime | None, now: datetime) -> bool:
    """Whether a report has all of the time that ends then."""
    return end <= refreshed_at if refreshed_at is not None else end + SETTLING <= now
