"""What statements need of a month of the ledger that is archived (usage/archiving.py).

No row may leave the ledger before a document covers it. Then each cover keeps its sums of the month, by team, so that
documents are verified as before. Evidence packs read the archive's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import Max

from billing.archived_covers import ArchivedCover
from billing.covers import Covered
from billing.models import Closing, Cover, Particulars
from keys.errors import Unusable
from keys.models import Customer
from keys.own_keys import CUSTOMER
from usage import archive_files, archived
from usage.archive_files import Place
from usage.archive_rules import LedgerMonth

# Rows of a month, and adjustments of its calls, that no document covers: how many, by customer. Those before the first
# closing of a customer were billed elsewhere.
LEFT = """
SELECT e.customer_id, count(*) FROM (
    SELECT e.customer_id, e.admitted_at, e.xid FROM {table} e
    UNION ALL
    SELECT e.customer_id, e.admitted_at, a.xid FROM usage_adjustment a JOIN {table} e ON e.id = a.entry_id
    WHERE a.entry_id >= %(first)s AND a.entry_id < %(end)s
) AS e
LEFT JOIN (
    SELECT customer_id, min(starts_at) AS starts_at FROM billing_closing GROUP BY customer_id
) AS begun ON begun.customer_id = e.customer_id
WHERE (begun.starts_at IS NULL OR e.admitted_at >= begun.starts_at) AND NOT EXISTS (
    SELECT FROM billing_cover c JOIN billing_closing k ON k.id = c.closing_id
    WHERE k.customer_id = e.customer_id AND e.admitted_at >= c.starts_at AND e.admitted_at < c.ends_at
        AND e.xid >= c.from_xid::xid8 AND e.xid < c.below_xid::xid8)
GROUP BY e.customer_id ORDER BY e.customer_id
"""
KEPT = """
INSERT INTO billing_archivedcover (cover_id, month, team, calls, adjustments, owed)
SELECT c.id, %(month)s, e.team_id, sum(e.calls), sum(e.adjustments), sum(e.owed)
FROM billing_cover c JOIN billing_closing k ON k.id = c.closing_id JOIN (
    SELECT e.customer_id, e.team_id, e.admitted_at, e.xid, 1 AS calls, 0 AS adjustments,
        coalesce(e.charge, e.cost) AS owed FROM {table} e
    UNION ALL
    SELECT e.customer_id, e.team_id, e.admitted_at, a.xid, 0, 1, coalesce(a.charge, a.cost)
    FROM usage_adjustment a JOIN {table} e ON e.id = a.entry_id
    WHERE a.entry_id >= %(first)s AND a.entry_id < %(end)s
) AS e ON e.customer_id = k.customer_id AND e.admitted_at >= c.starts_at AND e.admitted_at < c.ends_at
    AND e.xid >= c.from_xid::xid8 AND e.xid < c.below_xid::xid8
GROUP BY c.id, e.team_id
"""
# The columns of a call that an evidence pack and its conditions read.
COLUMNS = {
    "id": "uuid",
    "admitted_at": "timestamptz",
    "customer_id": "bigint",
    "team_id": "bigint",
    "virtual_key_id": "bigint",
    "model": "text",
    "cost": "numeric(30, 12)",
    "charge": "numeric(30, 12)",
    "xid": "xid8",
}
TEMPORARY = "billing_archivedcalls"
CREATE = f"CREATE TEMPORARY TABLE {TEMPORARY} ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})"
NAMES = ", ".join(COLUMNS)
SOURCE = f"(SELECT {NAMES} FROM usage_ledgerentry UNION ALL SELECT {NAMES} FROM {TEMPORARY})"  # noqa: S608 - constants
# Columns that may be NULL, which a file has as empty text.
NULLABLE = ("team_id", "charge")
NAMED = 3


class Keeper:
    """Statements' say about archiving a month."""

    def reasons(self, month: LedgerMonth) -> Iterator[str]:
        """Customers with calls of the month that are on no document yet, where there are statements."""
        if not (Closing.objects.exists() or Particulars.objects.exists()):
            return
        with connection.cursor() as cursor:
            cursor.execute(LEFT.format(table=month.table), {"first": month.first_id, "end": month.end_id})
            left = dict(cursor.fetchall())
        found = Customer.objects.filter(pk__in=left).exclude(name=CUSTOMER).order_by("name")
        if found:
            named = ", ".join(f"{each.name} ({left[each.pk]:,})" for each in found[:NAMED])
            more = f" and {len(found) - NAMED} others" if len(found) > NAMED else ""
            yield f"calls or adjustments are on no statement yet: {named}{more}"

    def stamp(self) -> str:
        """Which covers there are, and whether there are statements at all."""
        last = Cover.objects.aggregate(last=Max("pk"))["last"]
        return f"{last} {Particulars.objects.exists()}"

    def keep(self, month: LedgerMonth) -> None:
        """Store what each cover has of the month."""
        self.put_back(month.month)
        with connection.cursor() as cursor:
            given: dict[str, Any] = {"month": month.month, "first": month.first_id, "end": month.end_id}
            cursor.execute(KEPT.format(table=month.table), given)

    def put_back(self, month: date) -> None:
        """Forget what covers have of the month."""
        ArchivedCover.objects.filter(month=month).delete()


@contextmanager
def with_archives(covered: Sequence[Covered]) -> Iterator[list[Covered]]:
    """The same covers, whose rows are also read from the files of archived months while this block runs.

    Raises:
        Unusable: a file isn't there, or isn't what was archived.
    """
    months = [
        each
        for each in archived.months()
        if any(one.starts_at < each.until and each.since < one.ends_at for one in covered)
    ]
    if not months:
        yield list(covered)
        return
    customers = {str(one.customer) for one in covered}
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TEMPORARY}")
        cursor.execute(CREATE)
    try:
        for each in months:
            place = Place(Path(each.folder), each.month)
            try:
                archive_files.check(place, each.manifest)
            except Unusable as error:
                raise Unusable(f"{each} is archived, and {error}") from None
            _load(row for row in archive_files.records(place.rows) if row["customer_id"] in customers)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX ON {TEMPORARY} (id)")
            cursor.execute(f"ANALYZE {TEMPORARY}")
        yield [replace(one, source=SOURCE) for one in covered]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {TEMPORARY}")


def _load(rows: Iterable[dict[str, str]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {TEMPORARY} FROM STDIN") as copied:
        for row in rows:
            values: list[Any] = [None if name in NULLABLE and not row[name] else row[name] for name in COLUMNS]
            copied.write_row(values)
