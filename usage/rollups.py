"""Roll-ups: the ledger summed per quarter of an hour (UTC, by time of admission; usage/ledger_cells.py), per owner and
day (usage/owner_days.py), without callers (usage/totals.py), and by several levels (usage/levels.py). Reports read
nothing else.

Rows are added in the order of the transactions that wrote them: a row is added once its transaction is older than every
running one. Ids and timestamps can't be used for that, because rows are committed in another order than their calls are
admitted.

Roll-ups of earlier versions have fewer dimensions and measures. They are summed again in the background, a day in a
transaction, the latest day first (`complete`): all of them from `RollupState.whole_since` on are whole.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F
from django.utils import timezone

from usage import archived, moments
from usage.alerts import Alert
from usage.covering import after, beginning
from usage.ledger_cells import ADMITTED, WRITTEN
from usage.levels import BELOW_MONTHS, FEWER, LEVELS, MONTHS, Level, Span, SummedPeriod, lacking
from usage.models import Rollup, RollupState
from usage.owner_days import OWNER_DAYS
from usage.summed import ROLLUPS, Summed
from usage.totals import DAYS, QUARTERS

# Rows per transaction, so that each stays short even if many rows are waiting.
PART = 20_000
NOT_COMPARED = "roll-ups can't be compared with calls that aren't in the ledger"
# How often a random hour is chosen again that is archived.
TRIES = 50

# What sums the roll-ups further, and all of it.
FURTHER = (OWNER_DAYS, QUARTERS, DAYS, *(level.addition for level in LEVELS))
TABLES = (ROLLUPS, *FURTHER)

# The end (exclusive) of the next part, which starts at the first transaction that isn't rolled up yet.
NEXT_PART = """
WITH horizon AS (SELECT usage_numbered(pg_snapshot_xmin(pg_current_snapshot())) AS xid),
part AS (
    SELECT xid FROM (
        (SELECT l.xid FROM usage_ledgerentry l, horizon
        WHERE l.xid >= %(start)s::xid8 AND l.xid < horizon.xid ORDER BY l.xid LIMIT %(part)s)
        UNION ALL
        (SELECT a.xid FROM usage_adjustment a, horizon
        WHERE a.xid >= %(start)s::xid8 AND a.xid < horizon.xid ORDER BY a.xid LIMIT %(part)s)
    ) AS written ORDER BY xid LIMIT %(part)s
)
SELECT CASE WHEN (SELECT count(*) FROM part) < %(part)s THEN horizon.xid::text::numeric
    ELSE (SELECT max(xid::text::numeric) FROM part) + 1 END
FROM horizon
"""

# The cells are added to every table; to levels of few dimensions by what they add up to.
ADDED = (
    ROLLUPS.add_summed("fresh"),
    OWNER_DAYS.add("fresh"),
    *(each.add("total_cells") for each in (QUARTERS, DAYS)),
    *(level.add for level in LEVELS),
)
ADD_ALL = ", ".join(
    (
        *(level.cells for level in FEWER.values()),
        *(f"added_{number} AS ({added})" for number, added in enumerate(ADDED)),
    )
)
_ADD = "WITH fresh AS MATERIALIZED ({cells}), {all} SELECT coalesce(sum(written), 0)::bigint FROM fresh"
ADD = _ADD.format(cells=WRITTEN, all=ADD_ALL)
ADD_ADMITTED = _ADD.format(cells=ADMITTED, all=ADD_ALL)

# How many rows are missing or surplus in a table, and its sums of money and what they should be.
DIFFERENT = """
WITH fresh AS ({rows}), summed AS ({summed}), stored AS ({stored})
SELECT (SELECT count(*) FROM (SELECT * FROM summed EXCEPT SELECT * FROM stored) AS missing)
    + (SELECT count(*) FROM (SELECT * FROM stored EXCEPT SELECT * FROM summed) AS surplus),
    (SELECT coalesce(sum(cost), 0) FROM summed), (SELECT coalesce(sum(cost), 0) FROM stored)
"""


def _different(table: Summed, rows: str, summed: str | None = None) -> str:
    return DIFFERENT.format(rows=rows, summed=summed or table.select("fresh"), stored=table.stored)


DIFFERENT_ROLLUPS = _different(ROLLUPS, ADMITTED, f"SELECT {ROLLUPS.columns} FROM fresh")  # noqa: S608 - constants
DIFFERENT_FURTHER = tuple(
    _different(each, ROLLUPS.stored)
    for each in (OWNER_DAYS, QUARTERS, DAYS, *(level.addition for level in BELOW_MONTHS))
)
DIFFERENT_MONTHS = {level: _different(level.summed(), level.rows_within) for level in MONTHS}
DELETE_MONTHS = tuple(level.summed().delete for level in MONTHS)
# The first day of which the ledger or the roll-ups have something.
FIRST = """
SELECT (least((SELECT min(admitted_at) FROM usage_ledgerentry), (SELECT min(bucket) FROM usage_rollup),
    (SELECT min(bucket) FROM usage_daytotal)) AT TIME ZONE 'UTC')::date
"""


def roll_up() -> int:
    """Add what was written since the last time; return the number of ledger rows and adjustments added.

    It is safe to run it twice or in parallel: each part is added in one transaction with the record of its end.
    """
    total = _add_waiting()
    fold()
    return total


def fold() -> int:
    """Sum the days and months that levels lack and can have by now, each in a transaction; return how many."""
    span, count = _span(RollupState.objects.get()), 0
    if span is None:
        return 0
    has = set(SummedPeriod.objects.values_list("level", "start"))
    for level in LEVELS:
        for start in list(lacking(level, span, has)) if level.has_periods else ():
            if _fold(level, start):
                has.add((level.name, start))
                count += 1
    return count


def complete(seconds: float = 0) -> bool:
    """Sum roll-ups of an earlier version again, a day in a transaction; return whether all are whole now.

    It is safe to stop it at any time, and to run it in parallel and beside roll-ups.

    Args:
        seconds: no further day is begun after this time.
    """
    if not RollupState.objects.filter(whole_since__isnull=False).exists():
        return True
    until = time.monotonic() + seconds
    while not (whole := _complete_day()) and time.monotonic() < until:
        pass
    fold()
    return whole


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
            _add_waiting()
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
        since: the first day. None: the first one that there is, after all archived months.
        until: the last day, included. None: today.

    Yields:
        Each day, after it is done, with what was wrong; None: nothing was.

    Raises:
        Unusable: calls of these days are archived.
    """
    first, today = _first_day(since), timezone.now().astimezone(UTC).date()
    if first is None:
        return
    archived.refuse(
        _day(since or first)["since"],
        _day(until or today)["until"],
        NOT_COMPARED,
    )
    day, last = max(since or first, first), min(until or today, today)
    while day <= last:
        found, next_day = _rebuild_day(day), day + timedelta(days=1)
        if next_day > last or next_day.month != day.month:
            fold()
            wrong = _rebuild_months(day)
            if wrong is not None:
                fold()
                found = replace(found, cells=found.cells + wrong.cells) if found else wrong
        yield day, found
        day = next_day


def check(hour: datetime) -> Difference | None:
    """Compare the roll-ups of an hour with the ledger, and the tables that sum them further with its day's roll-ups.

    Returns:
        What differs; None: nothing does.
    """
    day = _day(hour.astimezone(UTC).date())
    with transaction.atomic(), connection.cursor() as cursor:
        state = lock()
        archived.keep_attached()
        if archived.overlapping(hour, hour + timedelta(hours=1)):
            return None
        found = _difference(cursor, {"since": hour, "until": hour + timedelta(hours=1), "end": state.xid})
        further = _different_further(cursor, day) + _different_months(cursor, day["since"])
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
    """The beginning of an hour between the first and the last roll-up whose calls are in the ledger; None: none is
    found."""
    first, last = (
        Rollup.objects.order_by(name).values_list("bucket", flat=True).first() for name in ("bucket", "-bucket")
    )
    if first is None or last is None:
        return None
    whole_since = RollupState.objects.values_list("whole_since", flat=True).first()
    first = max(first.replace(minute=0), whole_since or first.replace(minute=0))
    if first > last:
        return None
    hours = int((last - first) / timedelta(hours=1)) + 1
    for hour in (first + timedelta(hours=secrets.randbelow(hours)) for _ in range(TRIES)):
        if not archived.overlapping(hour, hour + timedelta(hours=1)):
            return hour
    return None


def _first_day(since: date | None) -> date | None:
    """The first day that can be compared; all before `since` if that is given."""
    with connection.cursor() as cursor:
        cursor.execute(FIRST)
        day: date | None = cursor.fetchone()[0]
    if day is not None and since is None and (ended := archived.until()) is not None:
        return max(day, (ended - timedelta(microseconds=1)).astimezone(UTC).date() + timedelta(days=1))
    return day


def _day(day: date) -> dict[str, Any]:
    """The beginning and the end of a day, as queries name them."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {"since": since, "until": since + timedelta(days=1)}


def _rebuild_day(day: date) -> Difference | None:
    """Sum a day again if it differs from the ledger; return what differed."""
    with transaction.atomic(), connection.cursor() as cursor:
        given = _day(day) | {"end": lock().xid}
        archived.keep_attached()
        archived.refuse(given["since"], given["until"], NOT_COMPARED)
        found = _difference(cursor, given)
        further = _different_further(cursor, given)
        if not found.cells and not further:
            return None
        sum_again(cursor, given)
    return replace(found, cells=found.cells or further)


def sum_again(cursor: Any, given: dict[str, Any]) -> None:
    """Replace what there is of a day by sums of the ledger. Its month is summed from its days afterwards."""
    forget_months(cursor, given["since"])
    for each in TABLES:
        cursor.execute(each.delete, given)
    cursor.execute(ADD_ADMITTED, given)
    RollupState.objects.update(rebuilt=F("rebuilt") + 1)


def _month(moment: datetime) -> dict[str, datetime]:
    """The beginning and the end of the month of a moment."""
    since = beginning(moment, "month")
    return {"since": since, "until": after(since, "month")}


def forget_months(cursor: Any, moment: datetime) -> None:
    """Delete what levels have of the month of a moment: until it is summed again, its days are read."""
    given = _month(moment)
    for statement in DELETE_MONTHS:
        cursor.execute(statement, given)
    names = [level.name for level in MONTHS]
    SummedPeriod.objects.filter(level__in=names, start=given["since"]).delete()


def _rebuild_months(day: date) -> Difference | None:
    """Delete what levels have of the month of a day if it isn't the sum of its days; return what differed."""
    with transaction.atomic(), connection.cursor() as cursor:
        lock()
        since = _day(day)["since"]
        cells = _different_months(cursor, since)
        if not cells:
            return None
        forget_months(cursor, since)
        RollupState.objects.update(rebuilt=F("rebuilt") + 1)
    return Difference(since, cells, Decimal(0), Decimal(0))


def _fold(level: Level, start: datetime) -> bool:
    """Sum a period of a level; return False if another process has done it meanwhile, or if it must wait."""
    with transaction.atomic(), connection.cursor() as cursor:
        span = _span(lock())
        # Roll-ups of another day may have come meanwhile, which a month has only after that day.
        names = [level.name, *([level.finer.name] if level.finer is not None else [])]
        has = set(SummedPeriod.objects.filter(level__in=names).values_list("level", "start"))
        if span is None or start not in lacking(level, span, has):
            return False
        cursor.execute(level.fold, {"since": start, "until": after(start, level.grain)})
        SummedPeriod.objects.create(level=level.name, start=start)
    return True


def _span(state: RollupState) -> Span | None:
    """Of which time there are roll-ups; None: there are none."""
    first, last = (
        Rollup.objects.order_by(name).values_list("bucket", flat=True).first() for name in ("bucket", "-bucket")
    )
    if first is None or last is None:
        return None
    return Span(first, min(last, timezone.now()), state.whole_since)


def _complete_day() -> bool:
    """Sum the latest day again that isn't whole; return whether all are whole."""
    with transaction.atomic(), connection.cursor() as cursor:
        state = lock()
        if state.whole_since is None:
            return True
        archived.keep_attached()
        day = _day((state.whole_since - timedelta(microseconds=1)).astimezone(UTC).date())
        # Those of archived months stay as they are.
        if archived.has_day(day["since"].date()) or not Rollup.objects.filter(bucket__lt=day["until"]).exists():
            RollupState.objects.update(whole_since=None)
            return True
        sum_again(cursor, day | {"end": state.xid})
        RollupState.objects.update(whole_since=day["since"])
    return False


def _difference(cursor: Any, given: dict[str, Any]) -> Difference:
    """What the roll-ups of a time have otherwise than the ledger."""
    cursor.execute(DIFFERENT_ROLLUPS, given)
    return Difference(given["since"], *cursor.fetchone())


def _different_months(cursor: Any, moment: datetime) -> int:
    """How many rows of the month of a moment aren't the sums of its days, at levels that have the month."""
    given, count = _month(moment), 0
    has = set(SummedPeriod.objects.filter(start=given["since"]).values_list("level", flat=True))
    for level, query in DIFFERENT_MONTHS.items():
        if level.name in has:
            cursor.execute(query, given)
            count += cursor.fetchone()[0]
    return count


def _different_further(cursor: Any, day: dict[str, Any]) -> int:
    """How many rows of the tables that sum the roll-ups further aren't the sums of a day's roll-ups."""
    count = 0
    for query in DIFFERENT_FURTHER:
        cursor.execute(query, day)
        count += cursor.fetchone()[0]
    return count


def lock() -> RollupState:
    """The state, locked, so that other processes that roll up wait."""
    return RollupState.objects.select_for_update().get()


def _add_waiting() -> int:
    """Add what was written since the last time, part by part; return the number of rows."""
    total = 0
    while True:
        added, more = _roll_up_part()
        total += added
        if not more:
            return total


def _roll_up_part() -> tuple[int, bool]:
    """Add one part; return the number of its rows, and whether there may be more."""
    with transaction.atomic(), connection.cursor() as cursor:
        state = lock()
        cursor.execute(NEXT_PART, {"start": state.xid, "part": PART})
        end = str(int(cursor.fetchone()[0]))
        cursor.execute(ADD, {"start": state.xid, "end": end})
        added: int = cursor.fetchone()[0]
        state.xid, state.rolled_up_at = end, timezone.now()
        state.save(update_fields=["xid", "rolled_up_at"])
    return added, added >= PART
