"""Erases a label from what is recorded of calls, such as e-mail addresses or ids of people.

Rows keep everything else, so no sum changes; a trigger sees to it (usage/sql/retention.sql). Where the label is a
dimension of roll-ups, their cells merge in the transaction that erases it from a day's rows. The files of archived
months are replaced (usage/archive_rewriting.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from keys.audit.notes import note
from keys.errors import Unusable
from keys.models import Customer, VirtualKey
from usage import archived, export, rollups
from usage.archive_files import BEFORE_ALL, fetch
from usage.ledger_cells import COST_CENTRES, LABEL_LENGTH, PROJECT
from usage.levels import LEVELS, MONTHS
from usage.summed import ROLLUPS, Summed

PART = 5_000
# Which label of roll-ups has which column.
DIMENSIONS = {**dict.fromkeys(COST_CENTRES, "cost_centre"), PROJECT: "project"}
OF_CUSTOMER = "(%(customer)s::bigint IS NULL OR e.customer_id = %(customer)s)"


def fits(column: str) -> str:
    """Whether a column has the label, as SQL."""
    return (
        f"EXISTS (SELECT FROM jsonb_each_text({column}) AS l (name, value)"
        " WHERE l.name = ANY (%(names)s) AND (%(value)s::text IS NULL OR l.value = %(value)s))"
    )


def less(column: str) -> str:
    """A column without the label, as SQL."""
    return (
        f"coalesce((SELECT jsonb_object_agg(l.name, l.value) FROM jsonb_each({column}) AS l (name, value)"  # noqa: S608
        " WHERE NOT (l.name = ANY (%(names)s)"
        " AND (%(value)s::text IS NULL OR l.value #>> '{}' = %(value)s))), '{}')"
    )


EITHER = f"({fits('e.labels')} OR {fits('e.client_labels')}) AND {OF_CUSTOMER}"
BOTH_LESS = f"SET labels = {less('e.labels')}, client_labels = {less('e.client_labels')}"
WITHIN = "e.id > %(after)s AND e.id <= %(last)s"
COUNT = f"SELECT count(*) FROM usage_ledgerentry e WHERE {EITHER} AND {WITHIN}"  # noqa: S608 - constants
OF_DAY = f"""
UPDATE usage_ledgerentry e {BOTH_LESS} WHERE {EITHER}
    AND e.id >= %(first)s AND e.id < %(end)s AND e.admitted_at >= %(since)s AND e.admitted_at < %(until)s
"""
DAYS = f"SELECT DISTINCT (admitted_at AT TIME ZONE 'UTC')::date FROM usage_ledgerentry e WHERE {EITHER} AND {WITHIN}"  # noqa: S608
OF_CELL = (
    "{dimension} <> '' AND (%(cell)s::text IS NULL OR {dimension} = %(cell)s) "
    "AND (%(customer)s::bigint IS NULL OR customer_id = %(customer)s)"
)
CELLS = f"""
SELECT DISTINCT (bucket AT TIME ZONE 'UTC')::date FROM usage_rollup
WHERE bucket >= %(since)s AND bucket < %(until)s AND {OF_CELL}
"""  # noqa: S608 - constants
HOLDS = f"SELECT e.id FROM usage_hold e WHERE {EITHER} ORDER BY e.id"  # noqa: S608 - constants
HOLD = f"UPDATE usage_hold e {BOTH_LESS} WHERE e.id = %(hold)s"
# A late settlement says which labels its client sent.
DETAIL = "coalesce(a.detail -> 'client_labels', '{}')"


def update(table: str) -> str:
    """The statement that erases the label from a part of a table like the ledger."""
    return f"UPDATE {table} e {BOTH_LESS} WHERE {EITHER} AND {WITHIN}"


def is_in(table: str) -> str:
    """The query whether any row of a table like the ledger has the label."""
    return f"SELECT EXISTS (SELECT FROM {table} e WHERE {EITHER})"  # noqa: S608 - constants


def settled(table: str) -> str:
    """The adjustments that have the label, from `FROM` on; with a customer, of its calls in a table."""
    return f"""
    FROM usage_adjustment a WHERE {fits(DETAIL)} AND (%(customer)s::bigint IS NULL OR EXISTS (
        SELECT FROM {table} e WHERE e.id = a.entry_id AND e.customer_id = %(customer)s))
    """


NEXT_PART = f"""
SELECT coalesce(
    (SELECT id FROM usage_ledgerentry WHERE id > %(after)s ORDER BY id OFFSET {PART - 1} LIMIT 1),
    (SELECT id FROM usage_ledgerentry WHERE id > %(after)s ORDER BY id DESC LIMIT 1))
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Label:
    """A label by its name; `value`: only where it has this one; `customer`: only of this customer's calls."""

    name: str
    value: str | None = None
    customer: Customer | None = None

    def parameters(self) -> dict[str, Any]:
        """The parameters of the queries. Both spellings of a cost centre are one label."""
        names = list(COST_CENTRES) if self.name in COST_CENTRES else [self.name]
        return {"names": names, "value": self.value, "customer": self.customer.pk if self.customer else None}

    def keys(self) -> QuerySet[VirtualKey]:
        """The virtual keys that have it now."""
        fits = Q()
        for name in self.parameters()["names"]:
            fits |= Q(labels__has_key=name) if self.value is None else Q(labels__contains={name: self.value})
        keys = VirtualKey.objects.filter(fits).order_by("name")
        return keys.filter(customer=self.customer) if self.customer else keys


@dataclass(slots=True)
class Counts:
    """What has a label, or had it before it was erased: ledger rows, adjustments, holds, and archived rows."""

    rows: int = 0
    adjustments: int = 0
    holds: int = 0
    archived: int = 0

    def in_words(self) -> str:
        """For people."""
        return (
            f"{self.rows:,} ledger rows, {self.adjustments:,} adjustments, {self.holds:,} holds and "
            f"{self.archived:,} archived rows"
        )


def count(label: Label) -> Counts:
    """What of the ledger has a label. Archived rows aren't counted."""
    given, found = label.parameters(), Counts()
    for after, last in parts():
        found.rows += fetch(COUNT, given | {"after": after, "last": last})[0][0]
    found.adjustments = fetch(f"SELECT count(*) {settled('usage_ledgerentry')}", given)[0][0]
    found.holds = len(fetch(HOLDS, given))
    return found


def refuse(label: Label) -> None:
    """Refuse to erase what the next call would bring back.

    Raises:
        Unusable: virtual keys have the label.
    """
    if found := list(label.keys()[:4]):
        named = ", ".join(each.name for each in found[:3]) + (" and others" if len(found) > 3 else "")
        raise Unusable(f"virtual keys have the label still: remove it from {named} first")


def erase_recorded(label: Label) -> Counts:
    """Erase a label from holds, ledger rows, adjustments and roll-ups. It can be repeated if it was cut off.

    Raises:
        Unusable: virtual keys have the label.
    """
    refuse(label)
    given, found = label.parameters(), Counts()
    for (hold,) in fetch(HOLDS, given):  # one at a time, so that no settlement waits for two
        with connection.cursor() as cursor:
            cursor.execute(HOLD, given | {"hold": hold})
            found.holds += cursor.rowcount
    found.adjustments = erase_settled(given, "usage_ledgerentry")
    if dimension := DIMENSIONS.get(label.name):
        for day in days(given, dimension):
            found.rows += _erase_day(given, day, dimension)
        rollups.fold()
    else:
        for after, last in parts():
            with opened() as cursor:
                cursor.execute(update("usage_ledgerentry"), given | {"after": after, "last": last})
                found.rows += cursor.rowcount
    return found


def noted(label: Label, found: Counts) -> None:
    """Write into the audit log how much was erased, without the value."""
    note(
        "label erased",
        "usage_ledgerentry",
        label.name,
        customer=label.customer.pk if label.customer else None,
        rows=found.rows,
        adjustments=found.adjustments,
        holds=found.holds,
        archived=found.archived,
    )


def erase_settled(given: dict[str, Any], table: str) -> int:
    """Erase a label from adjustments; with a customer, from those of its calls in a table."""
    with opened() as cursor:
        cursor.execute(
            f"""
            UPDATE usage_adjustment b SET detail = jsonb_set(b.detail, '{{client_labels}}', s.less)
            FROM (SELECT a.id, {less(DETAIL)} AS less {settled(table)}) AS s WHERE s.id = b.id
            """,  # noqa: S608 - constants
            given,
        )
        return int(cursor.rowcount)


@contextmanager
def opened() -> Iterator[Any]:
    """A cursor in a transaction in which labels can be erased from the ledger."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('usage.ledger_gate', 'erase', true)")
        yield cursor
        cursor.execute("SELECT set_config('usage.ledger_gate', '', true)")


def parts() -> Iterator[tuple[UUID, UUID]]:
    """The ledger in parts: the id before each, and its last one."""
    after = BEFORE_ALL
    while (last := fetch(NEXT_PART, {"after": after})[0][0]) is not None:
        yield after, last
        after = last


def days(given: dict[str, Any], dimension: str) -> list[date]:
    """The days (UTC) with rows that have a label, and those of archived months with roll-ups that have it."""
    found: set[date] = set()
    for after, last in parts():
        found |= {day for (day,) in fetch(DAYS, given | {"after": after, "last": last})}
    for month in archived.months():
        query = CELLS.format(dimension=dimension)
        found |= {day for (day,) in fetch(query, given | _cell(given) | {"since": month.since, "until": month.until})}
    return sorted(found)


def _erase_day(given: dict[str, Any], day: date, dimension: str) -> int:
    """Erase a label from a day's rows and roll-ups; return the number of rows."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    until = since + timedelta(days=1)
    time = {"since": since, "until": until, "first": export.first_id(since), "end": export.last_id(until)}
    with opened() as cursor:
        state = rollups.lock()
        cursor.execute(OF_DAY, given | time)
        rows = int(cursor.rowcount)
        if not archived.has_day(day):
            if rows:
                rollups.sum_again(cursor, {"since": since, "until": until, "end": state.xid})
            return rows
        # The ledger can't be summed again, so cells are merged. Months are sums of days.
        for each in (ROLLUPS, *(level.summed() for level in LEVELS if level not in MONTHS)):
            if dimension in each.cell:
                cursor.execute(merged(each, dimension), given | _cell(given) | {"since": since, "until": until})
        rollups.forget_months(cursor, since)
    return rows


def _cell(given: dict[str, Any]) -> dict[str, Any]:
    """The value as roll-ups have it."""
    value = given["value"]
    return {"cell": None if value is None else value[:LABEL_LENGTH]}


def merged(table: Summed, dimension: str) -> str:
    """The statement that adds the cells with a value of a dimension to those without one."""
    other = Summed(table.table, {**table.cell, dimension: "''"}, table.measures, "", table.within, table.unique)
    gone = f"DELETE FROM {table.table} WHERE {table.within} AND {OF_CELL.format(dimension=dimension)} RETURNING *"  # noqa: S608
    return f"WITH gone AS ({gone}) {other.insert(other.select('gone'))}"
