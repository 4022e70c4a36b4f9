"""Months of customers: their names, and when they begin and end in a zone."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, timedelta

from keys.errors import Unusable


def parse(text: str) -> date:
    """The first day of a month that is written like 2026-10.

    Raises:
        Unusable: it isn't.
    """
    try:
        return datetime.strptime(text.strip(), "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise Unusable(f"“{text}” is not a month, such as 2026-10") from None


def following(month: date) -> date:
    """The first day of the next month."""
    return (month + timedelta(days=32)).replace(day=1)


def before(month: date) -> date:
    """The first day of the month before."""
    return (month - timedelta(days=1)).replace(day=1)


def start(month: date, zone: str) -> datetime:
    """The first moment of a month in a zone, in UTC. Where a clock change skips midnight, it is the change itself."""
    return datetime(month.year, month.month, 1, tzinfo=zoneinfo.ZoneInfo(zone)).astimezone(UTC)


def end(month: date, zone: str) -> datetime:
    """The first moment after a month in a zone, in UTC."""
    return start(following(month), zone)


def last_whole(now: datetime, zone: str) -> date:
    """The latest month that is over in a zone."""
    return before(now.astimezone(zoneinfo.ZoneInfo(zone)).date().replace(day=1))
