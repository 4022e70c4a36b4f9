"""Verifies that every counter equals what the ledger and the holds add up to, by recomputing it.

The result is exact even while calls are admitted and settled. One snapshot would be consistent (a call's row and its
counters change in one transaction), but a snapshot held while the whole ledger is summed would slow down every update
of a counter. Therefore the ledger is summed in parts, each in a short transaction: rows of transactions that had ended
when the verification began, which can't change any more. Then the windows are compared in parts, each in one statement
that adds the rows written since and the holds.

The sum starts from the last checkpoint (usage/checkpoints.py), or with `whole` from the beginning: from what archived
months had spent, and all rows that are still in the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from usage import archived, checkpoints, transaction_numbers
from usage.budgets import Budget
from usage.checkpoint_tables import Checkpoint
from usage.checkpoints import BEGINNING, Amount, Base
from usage.limits import Limit

# Ledger rows summed, and windows compared, per statement.
PART = 20_000
WINDOWS = 1_000

Key = tuple[int, datetime]

TOKENS = """usage_tokens(a.input_tokens, a.output_tokens, a.cache_read_input_tokens, a.cache_creation_5m_input_tokens,
    a.cache_creation_1h_input_tokens)"""

# Amounts spent per window, from rows and adjustments of a range of transactions.
SPENT = f"""
SELECT c.budget, c.start, c.amount FROM usage_ledgerentry e, unnest(e.charges) AS c
WHERE e.xid >= %(low)s::xid8 AND e.xid < %(high)s::xid8
UNION ALL
SELECT c.budget, c.start, c.amount
FROM usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id,
unnest(usage_spent(e.charges, usage_owed(a.charge, a.cost), {TOKENS})) AS c
WHERE a.xid >= %(low)s::xid8 AND a.xid < %(high)s::xid8
"""  # noqa: S608 - constants
HORIZON = f"SELECT {transaction_numbers.HORIZON}::text"
NEXT_PART = """
SELECT coalesce((
    SELECT (e.xid::text::numeric + 1)::text FROM usage_ledgerentry e
    WHERE e.xid >= %(low)s::xid8 AND e.xid < %(high)s::xid8 ORDER BY e.xid OFFSET %(part)s LIMIT 1), %(high)s)
"""
SUM = f"SELECT budget, start, coalesce(sum(amount), 0) FROM ({SPENT}) AS spent GROUP BY budget, start"  # noqa: S608 - constants

# A part of the windows, with what was spent since the horizon and what is held in them, in one snapshot.
COMPARE = f"""
WITH part AS MATERIALIZED (
    SELECT budget_id, start, spent, held FROM usage_window
    WHERE (budget_id, start) > (%(budget)s, %(start)s) ORDER BY budget_id, start LIMIT %(windows)s
), recent AS (
    SELECT budget, start, sum(amount) AS amount FROM ({SPENT}) AS spent
    WHERE (budget, start) IN (SELECT budget_id, start FROM part) GROUP BY budget, start
), holds AS (
    SELECT c.budget, c.start, sum(c.amount) AS amount FROM (
        SELECT charges FROM usage_hold WHERE charges IS NOT NULL UNION ALL SELECT charges FROM usage_retained
    ) AS held, unnest(held.charges) AS c
    WHERE (c.budget, c.start) IN (SELECT budget_id, start FROM part) GROUP BY c.budget, c.start
)
SELECT p.budget_id, p.start, p.spent, p.held, coalesce(r.amount, 0), coalesce(h.amount, 0),
    coalesce(base.spent, 0), coalesce(base.held, 0)
FROM part p
LEFT JOIN recent r ON (r.budget, r.start) = (p.budget_id, p.start)
LEFT JOIN holds h ON (h.budget, h.start) = (p.budget_id, p.start)
{checkpoints.LATEST.format(budget="p.budget_id", start="p.start")}
ORDER BY p.budget_id, p.start
"""  # noqa: S608 - constants

# What was spent since the horizon and is held, but belongs to no existing window.
ORPHANS = f"""
SELECT budget, start, coalesce(sum(spent), 0), coalesce(sum(held), 0) FROM (
    SELECT budget, start, amount, 0 FROM ({SPENT}) AS spent
    UNION ALL
    SELECT c.budget, c.start, 0, c.amount FROM (
        SELECT charges FROM usage_hold WHERE charges IS NOT NULL UNION ALL SELECT charges FROM usage_retained
    ) AS held, unnest(held.charges) AS c
) AS charged (budget, start, spent, held)
WHERE NOT EXISTS (SELECT FROM usage_window w WHERE w.budget_id = charged.budget AND w.start = charged.start)
GROUP BY budget, start
"""  # noqa: S608 - constants

# Counters without a window. One statement compares all of a kind.
RUNNING = """
SELECT l.id, coalesce(s.running, 0), coalesce(h.amount, 0)
FROM usage_limit l LEFT JOIN usage_limitstate s ON s.limit_id = l.id LEFT JOIN (
    SELECT t.throttle, sum(t.amount) AS amount FROM usage_hold h, unnest(h.throttles) AS t GROUP BY t.throttle
) AS h ON h.throttle = l.id
WHERE l.kind = 'parallel' ORDER BY l.id
"""
PREPAID = """
SELECT b.id, b.amount, coalesce((SELECT sum(t.amount) FROM usage_topup t WHERE t.budget_id = b.id), 0)
FROM usage_budget b WHERE b.period = 'none' ORDER BY b.id
"""
COUNTERS = """
SELECT EXISTS (SELECT FROM usage_window) OR EXISTS (SELECT FROM usage_limitstate)
    OR EXISTS (SELECT FROM usage_budget WHERE period = 'none')
"""
# What archived months have spent.
ARCHIVED = """
SELECT c.budget, c.start, c.amount FROM usage_archivedcharge c JOIN usage_archivedmonth m ON m.month = c.month
WHERE m.state <> 'exported'
"""
FAR = str(2**63 - 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that differs from its recomputed value."""

    what: str
    counted: Decimal
    derived: Decimal

    def __str__(self) -> str:
        return f"{self.what}: counted {self.counted:f}, derived {self.derived:f}"


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """What is wrong with the checkpoints."""

    what: str

    def __str__(self) -> str:
        return self.what


Fault = Difference | BrokenChain


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found; `checkpoint`: the one that it made, if nothing was wrong."""

    faults: list[Fault]
    checkpoint: Checkpoint | None = None


@dataclass(slots=True)
class Sums:
    """What the ledger says of windows.

    Attributes:
        settled: what was spent between the base and the horizon.
        changed: the windows that the next checkpoint has.
    """

    base: Base
    horizon: str
    settled: dict[Key, Decimal]
    changed: dict[Key, Amount] = field(default_factory=dict)


def verify() -> list[Fault]:
    """Every counter that differs from the sum of ledger, adjustments, holds and top-ups; empty if all agree."""
    return _verify(whole=False)[0]


def check_point(*, whole: bool = False) -> Verified:
    """The same, which makes a checkpoint if all agree.

    Args:
        whole: read everything that is still in the ledger. The checkpoint begins a new chain.
    """
    faults, sums = _verify(whole=whole)
    return Verified(faults, None if faults else checkpoints.make(sums.base, sums.horizon, sums.changed))


def counters_exist() -> bool:
    """Whether there is a counter to verify: a budget or limit that calls have used, or a prepaid balance."""
    return bool(_rows(COUNTERS)[0][0])


def _verify(*, whole: bool) -> tuple[list[Fault], Sums]:
    horizon = str(_rows(HORIZON)[0][0])
    base = BEGINNING if whole else checkpoints.base(horizon)
    # No month may leave the ledger, or come back, between its sum and those of the others.
    with nullcontext() if base.last else archived.alone():
        return _compared(base, horizon)


def _compared(base: Base, horizon: str) -> tuple[list[Fault], Sums]:
    settled: defaultdict[Key, Decimal] = defaultdict(Decimal)
    if not base.last:
        for budget, start, amount in _rows(ARCHIVED):
            settled[budget, start] += amount
    _settled(settled, base.below_xid, horizon)
    sums = Sums(base, horizon, settled)
    broken = [BrokenChain(each) for each in base.faults]
    return [*broken, *_windows(sums), *_running(), *_prepaid()], sums


def _windows(sums: Sums) -> Iterator[Difference]:
    budget, start = 0, datetime.fromisoformat("1970-01-01T00:00:00Z")
    chain = {"first": sums.base.first, "last": sums.base.last}
    settled = dict(sums.settled)
    while True:
        given = {"low": sums.horizon, "high": FAR, "budget": budget, "start": start, "windows": WINDOWS}
        part = _rows(COMPARE, given | chain)
        for budget, start, spent, held, recent, holds, spent_then, held_then in part:
            below = spent_then + settled.pop((budget, start), Decimal(0))
            if (below, holds) != (spent_then, held_then):
                sums.changed[budget, start] = Amount(below, holds)
            for what, counted, right in (("spent", spent, below + recent), ("held", held, holds)):
                if counted != right:
                    window = f"{_named(Budget, budget)}, window from {start.isoformat()}"
                    yield Difference(f"{window}, {what}", counted, right)
        if len(part) < WINDOWS:
            break
    for budget, start, spent_then in _rows(checkpoints.GONE, chain):
        settled[budget, start] = settled.get((budget, start), Decimal(0)) + spent_then
    orphans = {key: (amount, Decimal(0)) for key, amount in settled.items()}
    for budget, start, recent, held in _rows(ORPHANS, {"low": sums.horizon, "high": FAR}):
        orphans[budget, start] = (settled.get((budget, start), Decimal(0)) + recent, held)
    # Budget or start can be NULL in a damaged row; sorting by `str` keeps it in the list.
    for (budget, start), both in sorted(orphans.items(), key=str):
        for what, derived in zip(("spent", "held"), both, strict=True):
            if derived:
                window = f"{_named(Budget, budget)}, no window from {start and start.isoformat()}"
                yield Difference(f"{window}, {what}", Decimal(0), derived)


def _settled(spent: dict[Key, Decimal], low: str, horizon: str) -> None:
    """Add what was spent per window by transactions from one on, below the horizon."""
    while True:
        high = str(_rows(NEXT_PART, {"low": low, "high": horizon, "part": PART})[0][0])
        for budget, start, amount in _rows(SUM, {"low": low, "high": high}):
            spent[budget, start] += amount
        if high == horizon:
            return
        low = high


def _running() -> Iterator[Difference]:
    for limit, counted, derived in _rows(RUNNING):
        if counted != derived:
            yield Difference(f"{_named(Limit, limit)}, calls at once", Decimal(counted), Decimal(derived))


def _prepaid() -> Iterator[Difference]:
    for budget, counted, derived in _rows(PREPAID):
        if counted != derived:
            yield Difference(f"{_named(Budget, budget)}, prepaid", counted, derived)


def _named(kind: type[Budget | Limit], number: int) -> str:
    """A budget or limit in words, if it exists: `budget 3 ($500 a month for team Research)`; else only its number."""
    found = kind._default_manager.filter(pk=number).first()
    name = f"{kind._meta.verbose_name} {number}"
    return f"{name} ({found})" if found is not None else name


def _rows(query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
