"""Roll-ups: the ledger summed per quarter of an hour (UTC, by time of admission), per owner and day
(usage/owner_days.py), and without callers (usage/totals.py). Reports read nothing else.

Rows are added in the order of the transactions that wrote them: a row is added once its transaction is older than every
running one. Ids and timestamps can't be used for that, because rows are committed in another order than their calls are
admitted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists
from django.utils import timezone

from usage import moments
from usage.alerts import Alert
from usage.models import Rollup, RollupState
from usage.owner_days import OWNER_DAYS
from usage.summed import ROLLUPS, Summed
from usage.tokens import TOKEN_COLUMNS
from usage.totals import DAYS, QUARTERS

# Rows per transaction, so that each stays short even if many rows are waiting.
PART = 20_000

# Tables that sum the roll-ups further, and all.
FURTHER = (OWNER_DAYS, QUARTERS, DAYS)
TABLES = (ROLLUPS, *FURTHER)

# The end (exclusive) of the next part, which starts at the first transaction that isn't rolled up yet.
NEXT_PART = """
WITH horizon AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid),
part AS (
    SELECT l.xid FROM usage_ledgerentry l, horizon
    WHERE l.xid >= %(start)s::xid8 AND l.xid < horizon.xid ORDER BY l.xid LIMIT %(part)s
)
SELECT CASE WHEN (SELECT count(*) FROM part) < %(part)s THEN horizon.xid::text::numeric
    ELSE (SELECT max(xid::text::numeric) FROM part) + 1 END
FROM horizon
"""


def _sum(alias: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in (*TOKEN_COLUMNS, "cost", "charge"))


# Rows of the ledger and of its adjustments, as roll-ups count them; {entries} and {adjustments} choose them.
FRESH = f"""
    SELECT date_bin('15 minutes', e.admitted_at, '2000-01-01T00:00:00Z') AS bucket, e.customer_id, e.team_id,
        e.virtual_key_id, e.provider_key_id, e.model, e.status, 1 AS calls, e.estimated::integer AS estimated_calls,
        {_sum("e")}
    FROM usage_ledgerentry e WHERE {{entries}}
    UNION ALL
    SELECT date_bin('15 minutes', e.admitted_at, '2000-01-01T00:00:00Z'), e.customer_id, e.team_id, e.virtual_key_id,
        e.provider_key_id, e.model, e.status, 0, 0, {_sum("a")}
    FROM usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id WHERE {{adjustments}}
"""  # noqa: S608 - constants
# What transactions within a range have written.
WRITTEN = FRESH.format(
    entries="e.xid >= %(start)s::xid8 AND e.xid < %(end)s::xid8",
    adjustments="a.xid >= %(start)s::xid8 AND a.xid < %(end)s::xid8",
)
# What was admitted within a time, of the transactions that are rolled up.
ADMITTED = FRESH.format(
    entries="e.admitted_at >= %(since)s AND e.admitted_at < %(until)s AND e.xid < %(end)s::xid8",
    adjustments="e.admitted_at >= %(since)s AND e.admitted_at < %(until)s AND a.xid < %(end)s::xid8",
)
# `fresh` is added to every table.
ADD_ALL = ", ".join(f"added_{number} AS ({each.add('fresh')})" for number, each in enumerate(TABLES))
ADD = f"WITH fresh AS ({WRITTEN}), {ADD_ALL} SELECT count(*) FROM fresh"  # noqa: S608 - constants
ADD_ADMITTED = f"WITH fresh AS ({ADMITTED}), {ADD_ALL} SELECT count(*) FROM fresh"  # noqa: S608 - constants

# How many rows are missing or surplus in a table, and its sums of money and what they should be.
DIFFERENT = """
WITH fresh AS ({rows}), summed AS ({summed}), stored AS ({stored})
SELECT (SELECT count(*) FROM (SELECT * FROM summed EXCEPT SELECT * FROM stored) AS missing)
    + (SELECT count(*) FROM (SELECT * FROM stored EXCEPT SELECT * FROM summed) AS surplus),
    (SELECT coalesce(sum(cost), 0) FROM summed), (SELECT coalesce(sum(cost), 0) FROM stored)
"""


def _different(table: Summed, rows: str) -> str:
    return DIFFERENT.format(rows=rows, summed=table.select("fresh"), stored=table.stored)


DIFFERENT_ROLLUPS = _different(ROLLUPS, ADMITTED)
DIFFERENT_FURTHER = tuple(_different(each, ROLLUPS.stored) for each in FURTHER)
# The first day of which the ledger or the roll-ups have something.
FIRST = """
SELECT (least((SELECT min(admitted_at) FROM usage_ledgerentry), (SELECT min(bucket) FROM usage_rollup),
    (SELECT min(bucket) FROM usage_daytotal)) AT TIME ZONE 'UTC')::date
"""


def roll_up() -> int:
    """Add what was written since the last time; return the number of ledger rows and adjustments added.

    It is safe to run it twice or in parallel: each part is added in one transaction with the record of its end.
    """
    total = 0
    while True:
        added, more = _roll_up_part()
        total += added
        if not more:
            return total


def freshen(age: timedelta = timedelta(minutes=1)) -> datetime | None:
    """Roll up, unless that was done within `age` or is being done now; return when it was last done.

    As long as there are no roll-ups at all, it is done in any case: a newcomer's first call must not seem lost.
    """
    with transaction.atomic():
        states = RollupState.objects.annotate(empty=~Exists(Rollup.objects.order_by()))
        state = states.select_for_update(skip_locked=True, of=("self",)).first()
        if state is not None:
            if not state.empty and state.rolled_up_at is not None and state.rolled_up_at >= timezone.now() - age:
                return state.rolled_up_at
            roll_up()
    return RollupState.objects.values_list("rolled_up_at", flat=True).first()


@dataclass(frozen=True, slots=True)
class Difference:
    """What the roll-ups of a time say otherwise than the ledger.

    Attributes:
        since: the beginning of that time (UTC).
        cells: how many of their rows differ, or are missing on one side.
        ledger_cost, rolled_up_cost: the sums of that time, in USD.
    """

    since: datetime
    cells: int
    ledger_cost: Decimal
    rolled_up_cost: Decimal


def rebuild(since: date | None = None, until: date | None = None) -> Iterator[tuple[date, Difference | None]]:
    """Compare each day (UTC) with the ledger and its adjustments, and sum it again where it differs.

    A day is replaced in one transaction, so that reports show it as it was or as it is right, and never without a part.
    It can be done while calls are settled and rolled up; it is safe to run it twice or in parallel.

    Args:
        since: the first day. None: the first one that there is.
        until: the last day, included. None: today.

    Yields:
        Each day, after it is done, with what was wrong; None: nothing was.
    """
    first, today = _first_day(), timezone.now().astimezone(UTC).date()
    if first is None:
        return
    day, last = max(since or first, first), min(until or today, today)
    while day <= last:
        yield day, _rebuild_day(day)
        day += timedelta(days=1)


def check(hour: datetime) -> Difference | None:
    """Compare the roll-ups of an hour with the ledger, and the tables that sum them further with its day's roll-ups.

    Returns:
        What differs; None: nothing does.
    """
    day = _day(hour.astimezone(UTC).date())
    with transaction.atomic(), connection.cursor() as cursor:
        state = _lock()
        found = _difference(cursor, {"since": hour, "until": hour + timedelta(hours=1), "end": state.xid})
        further = _different_further(cursor, day)
    return replace(found, cells=found.cells + further) if found.cells or further else None


def check_random_hour() -> Difference | None:
    """Compare a random hour with the ledger (`check`), and raise an alert if it differs."""
    hour = random_hour()
    found = check(hour) if hour is not None else None
    if found is not None:
        Alert.objects.bulk_create(
            [
                Alert(
                    start=found.since,
                    threshold=0,
                    spent=found.ledger_cost,
                    amount=found.rolled_up_cost,
                    at=moments.now(),
                )
            ],
            ignore_conflicts=True,  # an alert about this hour was raised before
        )
    return found


def random_hour() -> datetime | None:
    """The beginning of an hour between the first and the last roll-up; None: there are none."""
    first, last = (
        Rollup.objects.order_by(name).values_list("bucket", flat=True).first() for name in ("bucket", "-bucket")
    )
    if first is None or last is None:
        return None
    first = first.replace(minute=0)
    return first + timedelta(hours=secrets.randbelow(int((last - first) / timedelta(hours=1)) + 1))


def _first_day() -> date | None:
    with connection.cursor() as cursor:
        cursor.execute(FIRST)
        day: date | None = cursor.fetchone()[0]
    return day


def _day(day: date) -> dict[str, Any]:
    """The beginning and the end of a day, as queries name them."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {"since": since, "until": since + timedelta(days=1)}


def _rebuild_day(day: date) -> Difference | None:
    """Sum a day again if it differs from the ledger; return what differed."""
    with transaction.atomic(), connection.cursor() as cursor:
        given = _day(day) | {"end": _lock().xid}
        found = _difference(cursor, given)
        further = _different_further(cursor, given)
        if not found.cells and not further:
            return None
        for each in TABLES:
            cursor.execute(each.delete, given)
        cursor.execute(ADD_ADMITTED, given)
    return replace(found, cells=found.cells or further)


def _difference(cursor: Any, given: dict[str, Any]) -> Difference:
    """What the roll-ups of a time have otherwise than the ledger."""
    cursor.execute(DIFFERENT_ROLLUPS, given)
    return Difference(given["since"], *cursor.fetchone())


def _different_further(cursor: Any, day: dict[str, Any]) -> int:
    """How many rows of the tables that sum the roll-ups further aren't the sums of a day's roll-ups."""
    count = 0
    for query in DIFFERENT_FURTHER:
        cursor.execute(query, day)
        count += cursor.fetchone()[0]
    return count


def _lock() -> RollupState:
    """The state, locked, so that other processes that roll up wait."""
    return RollupState.objects.select_for_update().get()


def _roll_up_part() -> tuple[int, bool]:
    """Add one part; return the number of its rows, and whether there may be more."""
    with transaction.atomic(), connection.cursor() as cursor:
        state = _lock()
        cursor.execute(NEXT_PART, {"start": state.xid, "part": PART})
        end = str(int(cursor.fetchone()[0]))
        cursor.execute(ADD, {"start": state.xid, "end": end})
        added: int = cursor.fetchone()[0]
        state.xid, state.rolled_up_at = end, timezone.now()
        state.save(update_fields=["xid", "rolled_up_at"])
    return added, added >= PART
