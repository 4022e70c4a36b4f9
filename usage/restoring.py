"""Puts an archived month back into the ledger, and moves rows from the default partition into that of their month.

The rows are loaded into a table beside the ledger first, in short transactions, and compared with the manifest. One
transaction attaches it. A run that is cut off is simply repeated.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from psycopg import sql

from keys.audit.notes import note
from keys.errors import Unusable
from usage import archive_files, archive_rules, archived, archiving, request_ids
from usage.archive_files import PLAIN, Place, Tally, columns, fetch
from usage.archive_rules import LedgerMonth
from usage.archived import ArchivedCharge, ArchivedMonth, State

# Rows of a transaction.
PART = 20_000
MADE = """
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (LIKE usage_ledgerentry INCLUDING ALL);
ALTER TABLE {table} ADD CONSTRAINT usage_of_month CHECK (id >= '{first}' AND id < '{end}')
"""
# With the constraint, attaching reads none of the rows.
ATTACHED = """
ALTER TABLE usage_ledgerentry ATTACH PARTITION {table} FOR VALUES FROM ('{first}') TO ('{end}');
ALTER TABLE {table} DROP CONSTRAINT usage_of_month
"""
MOVE = """
INSERT INTO {table} SELECT * FROM usage_ledgerentry_other WHERE id >= %(first)s AND id < %(end)s
"""
GATE = "SELECT set_config('usage.ledger_gate', 'move', true), set_config('usage.moved_to', %s, true)"
GONE = "DELETE FROM usage_ledgerentry_other WHERE id >= %(first)s AND id < %(end)s"
MONTHS_OF_STRAYS = "SELECT id FROM usage_ledgerentry_other"


def restore(file: Path, *, by: str) -> ArchivedMonth:
    """Put the month back that a manifest is about.

    Args:
        by: the name of the person or command.

    Raises:
        Unusable: the file isn't what was archived, or the month isn't archived.
    """
    manifest = archive_files.read_manifest(file)
    with archived.alone():
        row = ArchivedMonth.objects.filter(month=f"{manifest['month']}-01").exclude(state=State.EXPORTED).first()
        if row is None:
            raise Unusable(f"{manifest['month']} is not archived")
        if manifest != row.manifest:
            raise Unusable(f"{file} differs from what was archived: the SHA-256 of {row.file} must be {_sha(row)}")
        place = Place(file.parent, row.month)
        archive_files.check(place, manifest)
        of = archiving.ledger_month(row.month)
        table = load(place, of, manifest)
        archiving.shortly(lambda cursor: attach(cursor, of, table, row, by))
    return row


def load(place: Place, of: LedgerMonth, manifest: dict[str, Any]) -> str:
    """Make a table of a month's rows, beside the ledger; return its name.

    Raises:
        Unusable: the ledger has no such columns any more, or the rows aren't what the manifest says.
    """
    table = _beside(of)
    said = manifest["files"][place.rows.name]
    make(table, of)
    if unknown := sorted(set(said["columns"]) - set(columns(table))):
        raise Unusable(
            f"the ledger of this version has no column {unknown[0]}: use the version that archived the month"
        )
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.SQL(table), sql.SQL(", ").join(map(sql.Identifier, said["columns"]))
    )
    for part in archive_files.lines(place.rows, PART):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(PLAIN)
            with cursor.copy(query) as copied:
                copied.write(part)
    found = Tally.empty()
    for after, last in archive_files.parts(table):
        where = "WHERE id > %s AND id <= %s"
        found.add(*fetch(f"SELECT {archive_files.SUMS} FROM {table} {where}", [after, last])[0])  # noqa: S608
    if found.said() != {name: said[name] for name in ("rows", "sums")}:
        raise Unusable(f"{place.rows} was read as {found.rows:,} rows whose sums differ: the month stays archived")
    return table


def make(table: str, of: LedgerMonth) -> None:
    """Make an empty table like the ledger."""
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in MADE.format(table=table, first=of.first_id, end=of.end_id).split(";"):
            cursor.execute(statement)


def attach(cursor: Any, of: LedgerMonth, table: str, row: ArchivedMonth | None, by: str) -> None:
    """Make a table the month's partition, with the rows of the month that were written meanwhile."""
    place, name = table.split(".")
    given = {"first": of.first_id, "end": of.end_id}
    cursor.execute("LOCK TABLE usage_ledgerentry_other IN ACCESS EXCLUSIVE MODE")
    cursor.execute(
        "SELECT set_config('usage.ledger_gate', 'move', true), set_config('usage.moved_to', %s, true)", [name]
    )
    cursor.execute(MOVE.format(table=table), given)
    moved = cursor.rowcount
    cursor.execute(GONE, given)
    cursor.execute("SELECT set_config('usage.ledger_gate', '', true)")
    cursor.execute(f"DROP TABLE IF EXISTS {place}.usage_ledgerentry_{of.month:%Y%m}")
    cursor.execute(f"ALTER TABLE {table} RENAME TO usage_ledgerentry_{of.month:%Y%m}")
    renamed = f"{place}.usage_ledgerentry_{of.month:%Y%m}"
    for statement in ATTACHED.format(table=renamed, first=of.first_id, end=of.end_id).split(";"):
        cursor.execute(statement)
    if row is None:
        note("partition made", "usage_ledgerentry", str(of), rows=moved)
        return
    ArchivedCharge.objects.filter(month=of.month).delete()
    ArchivedMonth.objects.filter(month=of.month).delete()
    for keeper in archive_rules.keepers():
        keeper.put_back(of.month)
    note("put back", "usage_ledgerentry", str(of), rows=archiving.rows_of(row), by=by)


def strays() -> dict[date, int]:
    """The months of which rows are in the default partition, and how many they are."""
    found: dict[date, int] = {}
    for (call,) in fetch(MONTHS_OF_STRAYS):
        month = request_ids.moment(call).date().replace(day=1)
        found[month] = found.get(month, 0) + 1
    return dict(sorted(found.items()))


def move_strays(month: date, *, by: str) -> int:
    """Make the partition of a month whose rows are in the default partition, and move them there; return how many.

    Raises:
        Unusable: there are none, or the month is archived: putting it back moves them, too.
    """
    with archived.alone():
        of = archiving.ledger_month(month)
        count = strays().get(month, 0)
        if ArchivedMonth.objects.filter(month=month).exclude(state=State.EXPORTED).exists():
            raise Unusable(f"{of} is archived: putting it back moves its {count} rows, too")
        if not count or of.table:
            raise Unusable(f"no row of {of} is in the default partition")
        make(table := _beside(of), of)
        archiving.shortly(lambda cursor: attach(cursor, of, table, None, by))
    return count


def _beside(of: LedgerMonth) -> str:
    place = archiving.kept_table_of(of.month).split(".")[0]
    return f"{place}.usage_restored_{of.month:%Y%m}"


def _sha(row: ArchivedMonth) -> str:
    return str(row.manifest["files"][row.file]["sha256"])
