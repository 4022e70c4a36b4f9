"""A month of the ledger that is long over, with budgets, roll-ups, closed statements and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F

from keys.errors import Unusable
from keys.models import VirtualKey
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from tests.support.statement_cast import bill, called, close, make_issuer
from usage import archiving, request_ids, rollups, verification
from usage.archived import has_day
from usage.models import Budget, Checkpoint, Window

MARCH, APRIL = date(2025, 3, 1), date(2025, 4, 1)
START = datetime(2025, 3, 1, tzinfo=UTC)
PERSON = "ada@example.com"


@dataclass
class Past:
    """Who called in that month, which budget paid, and the calls that a test names."""

    cast: Cast
    budget: Budget
    late: UUID
    labelled: UUID
    folder: Path


def sql(statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement; the rows that it returns."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


def make_partition(month: date) -> None:
    """The partition of a month before the tests' database was made, beside the ledger as all are."""
    first = request_ids.first_id(datetime(month.year, month.month, 1, tzinfo=UTC))
    end = request_ids.first_id(datetime(month.year, month.month + 1, 1, tzinfo=UTC))
    table = archiving.kept_table_of(month)
    sql(f"CREATE TABLE {table} PARTITION OF usage_ledgerentry FOR VALUES FROM ('{first}') TO ('{end}')")


def spent(key: VirtualKey, at: datetime, budget: Budget, **changes: Any) -> UUID:
    """A call that a budget has paid."""
    start = f"{START:%Y-%m-%d %H:%M:%S}+00"
    call = called(key, at, charges=f'{{"({budget.pk},\\"{start}\\",0.25,f)"}}', **changes)
    Window.objects.filter(budget=budget, start=START).update(spent=F("spent") + Decimal("0.25"))
    return call


@contextmanager
def past_month(folder: Path) -> Iterator[Past]:
    """Calls of March 2025, and one of April, with a partition for each month."""
    sql("DROP TABLE IF EXISTS usage_ledgerentry_202503, usage_ledgerentry_202504, usage_restored_202503")
    empty_ledger()
    for month in (MARCH, APRIL):
        make_partition(month)
    cast = make_cast()
    budget = Budget.objects.create(amount=100, customer=cast.alice.customer)
    Window.objects.create(budget=budget, start=START, until=datetime(2026, 4, 1, tzinfo=UTC), spent=0, held=0)
    at = datetime(2025, 3, 30, 9, 30, tzinfo=UTC)
    named = {"client_labels": {"user": PERSON, "tool": "ide"}}
    labelled = spent(cast.alice, at, budget, labels={"cost_centre": PERSON, "floor": "2"}, **named)
    spent(cast.bob, at, budget, labels={"cost_centre": "4711"}, charge="0.5", error_type='a "quoted",\nline')
    late = spent(cast.alice, datetime(2025, 3, 31, 23, 59, 59, tzinfo=UTC), budget, estimated=True)
    # The clocks of a process and of the database differ.
    called(cast.charlie, datetime(2025, 3, 31, 23, 59, 59, tzinfo=UTC), admitted_at=datetime(2025, 4, 1, tzinfo=UTC))
    called(cast.charlie, datetime(2025, 4, 2, tzinfo=UTC))
    try:
        yield Past(cast, budget, late, labelled, folder)
    finally:
        sql("DROP TABLE IF EXISTS usage_ledgerentry_202503, usage_ledgerentry_202504, usage_restored_202503")


def close_months(past: Past, *months: date) -> None:
    """Close months of both customers, where there is something to close."""
    if not hasattr(past, "issuer"):
        past.issuer = make_issuer()  # type: ignore[attr-defined]
        for key in (past.cast.alice, past.cast.charlie):
            bill(key.customer, past.issuer)  # type: ignore[attr-defined]
    for month in months:
        for key in (past.cast.alice, past.cast.charlie):
            with suppress(Unusable):
                close(key.customer, month)


def settle() -> None:
    """Roll up, and make a checkpoint that is after all that is written. Other tests of the server may have transactions
    of their own meanwhile."""
    written = sql("SELECT pg_current_xact_id()::text")[0][0]
    deadline = time.monotonic() + 60
    while True:
        rollups.roll_up()
        assert verification.check_point().faults == []
        last = Checkpoint.objects.order_by("-pk").first()
        if last is not None and int(last.below_xid) > int(written):
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def archived(past: Past, **options: Any) -> archiving.Done:
    """Archive March."""
    return archiving.archive(MARCH, by="test", folder=past.folder, **options)


def ledger() -> list[str]:
    """All rows of the ledger, with every column."""
    return [row for (row,) in sql("SELECT to_jsonb(e)::text FROM usage_ledgerentry e ORDER BY id")]


def differing() -> list[rollups.Difference]:
    """What the roll-ups of the days with calls have otherwise than the ledger; they are mended."""
    days = [day for (day,) in sql("SELECT DISTINCT (admitted_at AT TIME ZONE 'UTC')::date FROM usage_ledgerentry")]
    days = [day for day in days if not has_day(day)]
    return [found for day in days for _, found in rollups.rebuild(day, day) if found is not None]


def rolled_up() -> list[tuple[Any, ...]]:
    """What the roll-ups have, without labels."""
    sums = "sum(calls), sum(cost), sum(charge)"
    return sql(f"SELECT bucket, virtual_key_id, {sums} FROM usage_rollup GROUP BY 1, 2 ORDER BY 1, 2")
