"""Points in time: now, and as people type them (ISO 8601, a date with or without a time; without an offset, in UTC)."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection


def now() -> datetime:
    """The time by the database's clock, for what processes on different machines compare."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_now()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def parse(text: str) -> datetime:
    """Parse a point in time, in UTC. A date without a time means its first moment.

    Raises:
        ValueError: the text can't be parsed; the message says what was expected.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "an ISO 8601 date or time, such as 2026-11-01 or 2026-11-01T12:00:00Z"
        raise ValueError(f"“{text}” isn't {expected}") from None


def show(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond, with a Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
