"""Months of customers: their names, and when they begin and end in a zone."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, date, datetime, timedelta

from keys.errors import Unusable

MONTH = re.compile(r"2[0-9]{3}-(0[1-9]|1[0-2])")


def parse(text: str) -> date:
    """The first day of a month that is written like 2026-10.

    Raises:
        Unusable: it isn't.
    """
    if not MONTH.fullmatch(text.strip()):
        raise Unusable(f"“{text[:20]}” is not a month, such as 2026-10")
    year, month = text.strip().split("-")
    return date(int(year), int(month), 1)


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
