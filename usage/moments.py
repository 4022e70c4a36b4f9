"""Moments as people type them: ISO 8601, a date alone or with a time; without an offset it is UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def parse(text: str) -> datetime:
    """The moment, aware, in UTC; a date alone is its first moment.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"“{text}” is no ISO 8601 date or time, such as 2026-11-01 or 2026-11-01T12:00:00Z") from None


def show(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond, with a Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
