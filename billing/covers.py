"""Which ledger rows and adjustments a document covers, so that each is covered once, also while calls run.

A row belongs to the time of its call's admission, and to the transaction that wrote it. A closing reads the lowest id
of all running transactions, its horizon: every transaction below it has ended, so what these wrote is the same for each
reader, for all time. A closing covers its own time below the horizon, and of each earlier closed time what was written
from that time's last horizon on. So covers are rectangles of time and transaction ids that don't overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

from django.db import connection

from billing.models import Closing, Cover
from usage import export, transaction_numbers

HORIZON = f"""
SELECT {transaction_numbers.HORIZON}::text, usage_numbered(pg_snapshot_xmax(pg_current_snapshot()))::text
"""
LEDGER = "usage_ledgerentry"
OF_TEAM = " AND e.team_id IS NOT DISTINCT FROM %(team)s"
ENTRIES = """
{source} e WHERE e.customer_id = %(customer)s AND e.id >= %(first)s AND e.id < %(last)s
    AND e.admitted_at >= %(starts_at)s AND e.admitted_at < %(ends_at)s
    AND e.xid >= %(from_xid)s::xid8 AND e.xid < %(below_xid)s::xid8"""
ADJUSTMENTS = """
usage_adjustment a JOIN {source} e ON e.id = a.entry_id WHERE e.customer_id = %(customer)s
    AND a.entry_id >= %(first)s AND a.entry_id < %(last)s AND e.id >= %(first)s AND e.id < %(last)s
    AND e.admitted_at >= %(starts_at)s AND e.admitted_at < %(ends_at)s
    AND a.xid >= %(from_xid)s::xid8 AND a.xid < %(below_xid)s::xid8"""

# Of the ledger, and of archived months. One statement, so that no month is counted twice or left out while it is
# archived.
SUMS = """
SELECT team_id, sum(calls), sum(adjustments), sum(owed) FROM (
    SELECT e.team_id, count(*) AS calls, 0 AS adjustments, sum(coalesce(e.charge, e.cost)) AS owed
    FROM {entries} GROUP BY 1
    UNION ALL
    SELECT e.team_id, 0, count(*), sum(coalesce(a.charge, a.cost)) FROM {adjustments} GROUP BY 1
    UNION ALL
    SELECT e.team_id, e.calls, e.adjustments, e.owed FROM (
        SELECT s.team AS team_id, s.calls, s.adjustments, s.owed FROM billing_archivedcover s
        JOIN usage_archivedmonth m ON m.month = s.month
        WHERE s.cover_id = %(cover)s AND m.state <> 'exported'
    ) AS e WHERE true{of_team}
) AS summed GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Covered:
    """What a document covers of a customer.

    Attributes:
        by_team: only of `team`; with None, of calls without a team.
        earlier: the time was closed before.
        cover: the stored cover that this is; None: it isn't stored.
        source: where its ledger rows are read from.
    """

    customer: int
    starts_at: datetime
    ends_at: datetime
    from_xid: str
    below_xid: str
    earlier: bool = False
    by_team: bool = False
    team: int | None = None
    cover: int | None = None
    source: str = LEDGER

    def parameters(self) -> dict[str, Any]:
        """The parameters of `ENTRIES` and `ADJUSTMENTS`."""
        return {
            "customer": self.customer,
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "from_xid": self.from_xid,
            "below_xid": self.below_xid,
            "first": export.first_id(self.starts_at),
            "last": export.last_id(self.ends_at),
            "team": self.team,
            "cover": self.cover,
        }

    def entries(self) -> str:
        """The covered ledger rows, from `FROM` on."""
        return ENTRIES.format(source=self.source) + (OF_TEAM if self.by_team else "")

    def adjustments(self) -> str:
        """The covered adjustments with their ledger rows, from `FROM` on."""
        return ADJUSTMENTS.format(source=self.source) + (OF_TEAM if self.by_team else "")

    def read(self, query: str, **more: Any) -> list[tuple[Any, ...]]:
        """The rows of a query with these parameters, and more."""
        with connection.cursor() as cursor:
            cursor.execute(query, self.parameters() | more)
            return list(cursor.fetchall())


def horizon() -> tuple[str, str]:
    """The lowest id of running transactions, and the lowest id that no transaction has."""
    with connection.cursor() as cursor:
        cursor.execute(HORIZON)
        low, high = cursor.fetchone()
    return str(low), str(high)


def reachable() -> int:
    """What the horizon can reach once the present transactions have ended: the caller's own one may be among them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_numbered(pg_current_xact_id_if_assigned())::text")
        (own,) = cursor.fetchone()
    return int(own or horizon()[1])


def of_closing(customer: int, starts_at: datetime, ends_at: datetime, below_xid: str) -> list[Covered]:
    """What the next closing of a customer covers: its own time, and what came late for the times before."""
    late = [
        Covered(customer, since, until, cut, below_xid, earlier=True)
        for since, until, cut in cuts(customer)
        if int(cut) < int(below_xid)
    ]
    return [Covered(customer, starts_at, ends_at, "0", below_xid), *late]


def cuts(customer: int) -> Iterator[tuple[datetime, datetime, str]]:
    """The closed times of a customer, oldest first, each with the horizon below which it is covered. Neighbours with
    the same horizon are one."""
    covers = list(Cover.objects.filter(closing__customer=customer).values_list("starts_at", "ends_at", "below_xid"))
    edges = sorted({edge for since, until, _ in covers for edge in (since, until)})
    found: list[tuple[datetime, datetime, str]] = []
    for since, until in pairwise(edges):
        over = [int(below) for first, last, below in covers if first <= since and until <= last]
        if not over:
            continue
        cut = str(max(over))
        if found and found[-1][1:] == (since, cut):
            since = found.pop()[0]
        found.append((since, until, cut))
    yield from found


def stored(closing: Closing, credit: int, by_team: bool = False, team: int | None = None) -> list[Covered]:
    """What a document covers, as its closing has stored it."""
    return [
        Covered(
            closing.customer_id,
            each.starts_at,
            each.ends_at,
            each.from_xid,
            each.below_xid,
            earlier=credit > 0 or each.starts_at < closing.starts_at,
            by_team=by_team,
            team=team,
            cover=each.pk,
        )
        for each in Cover.objects.filter(closing=closing, credit=credit)
    ]


@dataclass(frozen=True, slots=True)
class Sum:
    """Calls, adjustments, and what owners pay for both, in USD."""

    calls: int = 0
    adjustments: int = 0
    owed: Decimal = Decimal(0)

    def __add__(self, other: Sum) -> Sum:
        with localcontext(prec=60):
            return Sum(self.calls + other.calls, self.adjustments + other.adjustments, self.owed + other.owed)


def sums(covered: Iterable[Covered]) -> dict[int | None, Sum]:
    """The sums of what is covered, from the ledger and of archived months, by team."""
    found: dict[int | None, Sum] = defaultdict(Sum)
    for each in covered:
        query = SUMS.format(
            entries=each.entries(), adjustments=each.adjustments(), of_team=OF_TEAM if each.by_team else ""
        )
        for team, calls, adjustments, owed in each.read(query):
            found[team] += Sum(int(calls), int(adjustments), owed)
    return dict(found)


def total(covered: Iterable[Covered]) -> Sum:
    """The sum of what is covered, from the ledger."""
    return sum(sums(covered).values(), Sum())
