"""The ledger's upkeep: partitions for the months to come, and rows for calls whose process died."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection

from usage.admission import TOKENS_PER_SECOND


def make_partitions(months: int = 3) -> int:
    """Make the partitions of this month and so many following ones; returns how many are new."""
    return _ask("SELECT usage_make_partitions(%s)", months)


def reap(lease: timedelta) -> int:
    """Turn the holds of processes that are dead for a lease into interrupted rows; returns how many."""
    return _ask("SELECT usage_reap(make_interval(secs => %s), %s)", lease.total_seconds(), TOKENS_PER_SECOND)


def _ask(query: str, *values: float) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        answer: int = cursor.fetchone()[0]
    return answer
