"""Archives a month of the ledger: exports it, verifies the files, and detaches its partition.

A month is either in the ledger or archived, and one transaction decides it. All before that can be done again: files
are written again, and what is kept of the month counts only once it is detached. So a run that is cut off anywhere is
simply repeated, and of two runs at once the second one waits.

The transaction has an exclusive lock on the ledger, for some milliseconds. It doesn't wait for it longer than
`LOCK_WAIT`, because calls that are settled would wait behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import OperationalError, connection, transaction

from keys.audit.notes import note
from keys.errors import Unusable
from usage import (
    archive_files,
    archive_rules,
    archived,
    checkpoints,
    moments,
    request_ids,
    rollups,
    transaction_numbers,
)
from usage.archive_files import Exported, Place, fetch
from usage.archive_rules import LedgerMonth
from usage.archived import ArchivedCharge, ArchivedMonth, State
from usage.covering import after
from usage.models import RollupState

# Providers' reports of a month are compared with the ledger for this time (reconciliation/freshness.py). Partitions are
# made from the month before on, so none is made for an archived month.
READ_FOR = timedelta(days=35)
# Milliseconds that calls may have to wait behind the lock, and how often and after which seconds it is tried again.
LOCK_WAIT, TRIES, PAUSE = 200, 50, 0.3
PARTITION = """
SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage_ledgerentry'::regclass AND c.relname = %s
"""
STRAYS = "SELECT count(*) FROM usage_ledgerentry_other WHERE id >= %(first)s AND id < %(end)s"
# Rows and adjustments of a month that a transaction has written from one on.
WRITTEN = """
SELECT EXISTS (SELECT FROM {table} WHERE xid >= %(xid)s::xid8) OR EXISTS (
    SELECT FROM usage_adjustment WHERE xid >= %(xid)s::xid8 AND entry_id >= %(first)s AND entry_id < %(end)s)
"""
OPEN = """
SELECT (SELECT count(*) FROM usage_hold WHERE id >= %(first)s AND id < %(end)s
        OR admitted_at >= %(since)s AND admitted_at < %(until)s)
    + (SELECT count(*) FROM usage_retained WHERE id >= %(first)s AND id < %(end)s)
"""
DAYS = """
SELECT (min(moment) AT TIME ZONE 'UTC')::date, (max(moment) AT TIME ZONE 'UTC')::date FROM (
    SELECT admitted_at FROM {table}
    UNION ALL SELECT bucket FROM usage_rollup WHERE bucket >= %(since)s AND bucket < %(until)s
) AS summed (moment)
"""
EARLIER = """
SELECT id FROM usage_ledgerentry
WHERE id < %(first)s AND tableoid <> 'usage_ledgerentry_other'::regclass ORDER BY id LIMIT 1
"""
# A detached table has no triggers of the ledger's any more.
GUARD = """
CREATE TRIGGER usage_archived_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_change()
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a run has done; `mended`: days whose roll-ups differed from the ledger, and were summed again."""

    row: ArchivedMonth
    fresh: bool
    mended: int = 0
    dropped: bool = False


def archive(month: date, *, by: str, folder: Path, drop: bool = False) -> Done:
    """Archive a month. One that is archived already stays as it is.

    Args:
        by: the name of the person, command or task.
        drop: also delete the table, after the files were verified once more.

    Raises:
        Unusable: it can't be archived; the message has every reason.
    """
    with archived.alone():
        row = ArchivedMonth.objects.filter(month=month).exclude(state=State.EXPORTED).first()
        fresh, mended = row is None, 0
        if row is None:
            of, stamps = ledger_month(month), archive_rules.stamps()
            refuse(of)
            mended = compare_rollups(of)
            row = detach(of, export(of, folder, by), stamps)
        return Done(row, fresh, mended, drop and drop_table(row))


def refuse(of: LedgerMonth) -> None:
    """Check that a month can be archived.

    Raises:
        Unusable: it can't, with every reason.
    """
    if found := list(reasons(of)):
        raise Unusable(f"{of} can't be archived yet: {'; '.join(found)}")


def reasons(of: LedgerMonth) -> Iterator[str]:
    """Why a month can't be archived yet."""
    given = values(of)
    now = moments.now()
    if now < of.ends_at:
        yield "it isn't over"
        return
    if now < of.ends_at + READ_FOR:
        yield f"reports of providers about it are read until {of.ends_at + READ_FOR:%Y-%m-%d}"
    for (call,) in fetch(EARLIER, given):
        yield f"{request_ids.moment(call):%Y-%m} comes first"
    if strays := fetch(STRAYS, given)[0][0]:
        yield f"{strays} of its rows are in the default partition: manage.py restore_month --strays {of}"
    if not of.table:
        yield "the ledger has no partition for it"
        return
    if count := fetch(OPEN, given)[0][0]:
        yield f"{count} of its calls are held or retained still"
    last = checkpoint()
    if last is None or written(of, last):
        yield "it isn't behind a verified checkpoint: run manage.py verify_ledger"
    state = RollupState.objects.get()
    if written(of, state.xid):
        yield "its roll-ups are not complete: the worker adds them every hour"
    if state.whole_since is not None and state.whole_since > of.starts_at:
        yield "its roll-ups are of an earlier version, and are being summed again"
    for keeper in archive_rules.keepers():
        yield from keeper.reasons(of)


def ledger_month(month: date) -> LedgerMonth:
    """A month with its partition; without a table, if it has none."""
    starts_at = datetime(month.year, month.month, 1, tzinfo=UTC)
    ends_at = after(starts_at, "month")
    found = fetch(PARTITION, [f"usage_ledgerentry_{month:%Y%m}"])
    first, end = request_ids.first_id(starts_at), request_ids.first_id(ends_at)
    return LedgerMonth(month, starts_at, ends_at, first, end, found[0][0] if found else "")


def checkpoint() -> str | None:
    """Below which transaction the ledger is verified; None: it never was, or the checkpoints are damaged."""
    horizon = str(fetch(f"SELECT {transaction_numbers.HORIZON}::text")[0][0])
    base = checkpoints.base(horizon)
    return None if base.faults or not base.last else base.below_xid


def values(of: LedgerMonth, xid: str = "0") -> dict[str, Any]:
    """The parameters of the queries."""
    return {"first": of.first_id, "end": of.end_id, "since": of.starts_at, "until": of.ends_at, "xid": xid}


def written(of: LedgerMonth, xid: str) -> bool:
    """Whether a transaction from this one on has written rows or adjustments of a month."""
    return bool(fetch(WRITTEN.format(table=of.table), values(of, xid))[0][0])


def compare_rollups(of: LedgerMonth) -> int:
    """Compare the roll-ups with the ledger for the last time; return how many days had to be summed again."""
    first, last = fetch(DAYS.format(table=of.table), values(of))[0]
    while first and archived.has_day(first):  # the month before has a call of this one's first day
        first += timedelta(days=1)
    return sum(found is not None for _, found in rollups.rebuild(first, last)) if first else 0


def export(of: LedgerMonth, folder: Path, by: str) -> ArchivedMonth:
    """Write and verify the files, and store what is needed of the month once its rows are out of the ledger."""
    below = checkpoint()
    if below is None:
        raise Unusable(f"{of} isn't behind a verified checkpoint: run manage.py verify_ledger")
    found = archive_files.export(Place(folder, of.month), of.table, of.first_id, of.end_id)
    with transaction.atomic():
        return store(of, found, below, folder, by)


def store(of: LedgerMonth, found: Exported, below: str, folder: Path, by: str) -> ArchivedMonth:
    """Replace what an earlier attempt stored."""
    ArchivedCharge.objects.filter(month=of.month).delete()
    ArchivedMonth.objects.filter(month=of.month, state=State.EXPORTED).delete()
    row = ArchivedMonth.objects.create(
        month=of.month,
        state=State.EXPORTED,
        first_id=of.first_id,
        end_id=of.end_id,
        since=min(of.starts_at, found.first or of.starts_at),
        until=max(of.ends_at, (found.last or of.starts_at) + timedelta(microseconds=1)),
        below_xid=below,
        folder=str(folder),
        manifest=found.manifest,
        archived_at=moments.now(),
        archived_by=by,
    )
    ArchivedCharge.objects.bulk_create(
        (
            ArchivedCharge(month=of.month, budget=budget, start=start, amount=amount)
            for (budget, start), amount in found.charges.items()
        ),
        batch_size=5000,
    )
    for keeper in archive_rules.keepers():
        keeper.keep(of)
    return row


def detach(of: LedgerMonth, row: ArchivedMonth, stamps: list[str]) -> ArchivedMonth:
    """Take the month's rows out of the ledger.

    Args:
        stamps: of `archive_rules`, when the month was checked.

    Raises:
        Unusable: something was written to the month since it was exported, a month was closed, or the ledger is locked
            all the time.
    """

    def work(cursor: Any) -> None:
        # The ledger comes last, so that calls wait for nothing but its lock.
        for table in (of.table, "usage_ledgerentry_other", "usage_ledgerentry"):
            cursor.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
        if written(of, row.below_xid) or fetch(OPEN, values(of))[0][0]:
            raise Unusable(f"{of} was written to while it was exported: run manage.py verify_ledger, and try again")
        if archive_rules.stamps() != stamps:
            raise Unusable(f"a month was closed or credited while {of} was exported: try again")
        cursor.execute(f"ALTER TABLE usage_ledgerentry DETACH PARTITION {of.table}")
        cursor.execute(GUARD.format(table=of.table))
        row.state = State.DETACHED
        row.save(update_fields=["state"])
        note("archived", "usage_ledgerentry", str(of), rows=rows_of(row), folder=row.folder)

    shortly(work)
    return row


def drop_table(row: ArchivedMonth) -> bool:
    """Delete the table of an archived month, after its files were verified; return False if it is deleted already.

    Raises:
        Unusable: the files aren't what was written.
    """
    if row.state == State.DROPPED:
        return False
    archive_files.check(Place(Path(row.folder), row.month), row.manifest)

    def work(cursor: Any) -> None:
        cursor.execute(f"DROP TABLE IF EXISTS {kept_table_of(row.month)}")
        row.state = State.DROPPED
        row.save(update_fields=["state"])
        note("table dropped", "usage_ledgerentry", str(row), rows=rows_of(row))

    shortly(work)
    return True


def kept_table_of(month: date) -> str:
    """The name that the table of a month has beside the ledger's."""
    found = fetch("SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'usage_ledgerentry'::regclass")
    return f"{found[0][0]}.usage_ledgerentry_{month:%Y%m}"


def rows_of(row: ArchivedMonth) -> int:
    """How many ledger rows an archived month has."""
    return int(row.manifest["files"][row.file]["rows"])


def shortly(work: Callable[[Any], None]) -> None:
    """Do something in a transaction that needs a lock, without holding up calls while waiting for it.

    Raises:
        Unusable: the lock wasn't free at any try.
    """
    for _ in range(TRIES):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_WAIT}ms"])
                work(cursor)
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") not in ("55P03", "40P01"):  # not a lock that isn't free
                raise
            time.sleep(PAUSE)
    raise Unusable("the ledger is in use by a long transaction, such as an export or a backup: try again later")
