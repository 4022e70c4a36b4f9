"""The ledger's upkeep: partitions for the coming months, and rows for calls whose process died."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID

from django.db import connection

from usage.tokens import TOKENS_PER_SECOND

SILENT = "SELECT count(*) FROM usage_process WHERE heartbeat_at < clock_timestamp() - make_interval(secs => %s)"


def make_partitions(months: int = 3) -> int:
    """Create the partitions of this month and of the following ones. Returns the number of new ones."""
    return _ask("SELECT usage_make_partitions(%s)", months)


def reap_those_that_stay_silent(lease: timedelta) -> int:
    """Turn the holds of dead processes into rows. Returns their number.

    If a heartbeat is older than the lease, it waits for a lease and looks again: after the database was frozen, or its
    clock was set, processes that are alive look dead until they beat.
    """
    if not _ask(SILENT, lease.total_seconds()):
        return 0
    time.sleep(lease.total_seconds())
    return reap(lease)


def reap(lease: timedelta) -> int:
    """Turn the holds of processes whose last heartbeat is older than the lease into rows. Returns their number."""
    return _ask("SELECT usage_reap(make_interval(secs => %s), %s)", lease.total_seconds(), TOKENS_PER_SECOND)


def give_back(age: timedelta) -> int:
    """Give back to budgets what has been retained for this long, for calls without a known end. Returns the number of
    calls.
    """
    return _ask("SELECT usage_give_back(NULL, make_interval(secs => %s))", age.total_seconds())


def give_back_of(call: UUID) -> bool:
    """Give back what is retained for this call, at an administrator's request. False if nothing is retained."""
    return bool(_ask("SELECT usage_give_back(ARRAY[%s]::uuid[], NULL)", call))


def expire() -> int:
    """Turn expired holds into interrupted rows. Returns their number."""
    return _ask("SELECT usage_expire()")


def _ask(query: str, *values: float | UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        answer: int = cursor.fetchone()[0]
    return answer
