"""Points in time as people type them: ISO 8601, a date with or without a time. Without an offset, it is UTC."""

from __future__ import annotations

from datetime import UTC, datetime


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
