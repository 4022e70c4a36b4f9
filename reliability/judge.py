"""Judges a run: what clients saw, what the provider counted, and what the ledger says must fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg

from reliability.load import LEFT, OK, UNANSWERED, Call

INTERRUPTED = "interrupted"
# How many ids a fault names.
NAMED = 3


@dataclass(frozen=True)
class Row:
    """A row of the ledger: its call's id (the client's `x-request-id`), and how many attempts it has."""

    id: str
    status: str
    attempts: int
    output_tokens: int
    estimated: bool


@dataclass(frozen=True)
class Balance:
    """A budget: what its windows say was spent and is held, and what rows, holds and retained amounts add up to."""

    budget: str
    spent: Decimal
    held: Decimal
    summed: Decimal
    holding: Decimal
    amount: Decimal = Decimal(0)


@dataclass
class Verdict:
    """What a run has shown. `faults`: the promises that were broken; empty if all were kept."""

    calls: int
    answers: dict[str, int]
    upstream: int
    rows: int
    interrupted: int
    surplus: int
    holds: int
    recovery: float | None
    faults: list[str] = field(default_factory=list)


def named(calls: Sequence[str]) -> str:
    """How many ids these are, with some of them."""
    return f"{len(calls)} ({', '.join(sorted(calls)[:NAMED])}{', …' if len(calls) > NAMED else ''})"


def compare(
    calls: Sequence[Call],
    upstream: Mapping[str, int],
    rows: Sequence[Row],
    *,
    killed: bool,
    allowed: frozenset[str] = frozenset(),
) -> list[str]:
    """The promises about calls that were broken.

    Args:
        calls: those of the run.
        upstream: how often each call has reached the provider, by its id.
        killed: whether a process was killed: only then may a row be interrupted, or a row be there without a call.
        allowed: how calls may end besides an answer in order.
    """
    faults = []
    found = Counter(row.id for row in rows)
    by_id = {row.id: row for row in rows}
    known = {call.id for call in calls}
    interrupted = {row.id for row in rows if row.status == INTERRUPTED}
    # A client that gives up may have done so before the provider had read the request that was on its way.
    given_up = {call.id for call in calls if call.ended in (LEFT, UNANSWERED)}
    surplus = sorted(set(found) - set(upstream) - given_up)
    for wrong, says in (
        (sorted(set(upstream) - set(found)), "calls reached the provider and have no row"),
        (sorted(name for name, count in found.items() if count > 1), "calls have more than one row"),
        ([name for name in surplus if name not in interrupted], "rows are of calls that never reached the provider"),
        ([] if killed else sorted(interrupted), "rows are interrupted, and no process was killed"),
        (sorted((set(found) | set(upstream)) - known), "calls were made that no client made"),
        (
            [name for name, count in upstream.items() if name in by_id and count > max(1, by_id[name].attempts)],
            "calls reached the provider more often than their rows say",
        ),
        (
            [call.id for call in calls if call.ended == OK and call.id not in upstream],
            "answers never came from the provider",
        ),
        (
            [call.id for call in calls if call.ended == OK and call.id in by_id and misses(by_id[call.id])],
            "answers arrived whole, and their rows don't say what the provider reported",
        ),
    ):
        if wrong:
            faults.append(f"{says}: {named(wrong)}")
    bad = Counter((call.ended, call.says) for call in calls if call.failed and call.ended not in allowed)
    faults += [f"{count} calls ended with “{': '.join(filter(None, how))}”" for how, count in bad.items()]
    return faults


def misses(row: Row) -> bool:
    """Whether the row of a call whose client got all of it lacks what the provider reported."""
    return row.status != INTERRUPTED and (row.estimated or row.output_tokens == 0)


def balance(counters: Sequence[Balance]) -> list[str]:
    """The budgets whose counters differ from what rows and holds add up to."""
    faults = []
    for each in counters:
        if each.spent != each.summed:
            faults.append(f"budget {each.budget} has {each.spent} spent, its rows add up to {each.summed}")
        if each.held != each.holding:
            faults.append(f"budget {each.budget} has {each.held} held, its holds add up to {each.holding}")
    return faults


def recovery(calls: Sequence[Call], since: float) -> float | None:
    """Seconds from `since` until calls were answered again, for good: when the last call was due that failed later, and
    how long after it the next one was answered. None: no call was answered afterwards.
    """
    later = sorted((call for call in calls if call.due >= since), key=lambda call: call.due)
    if not any(call.failed for call in later):
        return 0.0 if later else None
    last = max(call.due for call in later if call.failed)
    answered = [call.due for call in later if call.due > last]
    return min(answered) - since if answered else None


ROWS = """
SELECT coalesce(client_labels ->> 'request_id', ''), status, jsonb_array_length(attempts), output_tokens + coalesce((
    SELECT sum(a.output_tokens) FROM usage_adjustment a WHERE a.entry_id = e.id), 0), estimated
FROM usage_ledgerentry e WHERE client_labels ->> 'request_id' LIKE %s
"""
COUNTERS = """
SELECT b.id::text, coalesce(sum(w.spent), 0), coalesce(sum(w.held), 0),
    coalesce((SELECT sum(coalesce(e.charge, e.cost)) FROM usage_ledgerentry e
        WHERE e.virtual_key_id = b.virtual_key_id), 0)
    + coalesce((SELECT sum(coalesce(a.charge, a.cost)) FROM usage_adjustment a JOIN usage_ledgerentry e
        ON e.id = a.entry_id WHERE e.virtual_key_id = b.virtual_key_id), 0),
    coalesce((SELECT sum(c.amount) FROM (
        SELECT charges FROM usage_hold WHERE charges IS NOT NULL UNION ALL SELECT charges FROM usage_retained
    ) AS h, unnest(h.charges) AS c WHERE c.budget = b.id), 0), b.amount
FROM usage_budget b LEFT JOIN usage_window w ON w.budget_id = b.id
WHERE b.virtual_key_id IS NOT NULL GROUP BY b.id, b.virtual_key_id
"""


class Books:
    """The gateway's tables, read with our own queries: they share nothing with the code that is judged."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def rows(self, prefix: str) -> list[Row]:
        """The rows of the calls whose ids begin like this."""
        return [Row(*row) for row in self._read(ROWS, f"{prefix}-%")]

    def holds(self) -> int:
        """How many calls have a hold that a process owns."""
        found: int = self._read("SELECT count(*) FROM usage_hold WHERE process IS NOT NULL")[0][0]
        return found

    def counters(self) -> list[Balance]:
        return [Balance(*row) for row in self._read(COUNTERS)]
