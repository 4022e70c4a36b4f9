"""Our side: what the ledger and its adjustments say that each provider key used, by hour, model and mode.

A row has parts that providers count apart: attempts that failed at another place and cost something, and iterations of
other models. The rest is the answer's own part, to which adjustments belong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from reconciliation.freshness import DAY
from reconciliation.modes import mode_of, name_of
from reconciliation.reads import TOKEN_TYPES
from usage.export import CLOCKS

# A call lasts a day at most, and a batch's lines have the batch's id.
LONGEST_CALL = timedelta(days=1)

_JSON = ", ".join(f"coalesce((p ->> '{name}')::bigint, 0) AS {name}" for name in (*TOKEN_TYPES, "web_search_requests"))
_COLUMNS = (*TOKEN_TYPES, "web_search_requests", "cost")

# {where}: which rows. A part: its call, place, tokens and cost; `estimated`: they are an estimate; `own`: the answer's.
PARTS = """
WITH calls AS (
    SELECT e.* FROM usage_ledgerentry e
    WHERE e.id >= usage_first_id(%(first)s) AND e.id < usage_first_id(%(last)s)
        AND ((e.admitted_at >= %(since)s AND e.admitted_at < %(until)s)
            OR (e.ended_at >= %(since)s AND e.ended_at < %(until)s))
), adjusted AS (
    SELECT a.entry_id, {adjusted}, sum(coalesce(a.charge, a.cost)) AS owed,
        bool_or(a.reason = 'late_settlement') AS late, bool_or(a.reason = 'reconciliation') AS reconciled
    FROM usage_adjustment a JOIN calls c ON c.id = a.entry_id GROUP BY a.entry_id
), earlier AS (
    SELECT c.id, (p ->> 'provider_key_id')::bigint AS provider_key_id, p ->> 'model' AS model, {json},
        (p ->> 'cost')::numeric AS cost
    FROM calls c, jsonb_array_elements(c.attempts) WITH ORDINALITY AS a (p, n)
    WHERE jsonb_array_length(c.attempts) > 1 AND a.n < jsonb_array_length(c.attempts)
        AND (p ->> 'cost')::numeric <> 0
), steps AS (
    SELECT c.id, c.provider_key_id, p ->> 'model' AS model, {json}, (p ->> 'cost')::numeric AS cost
    FROM calls c, jsonb_array_elements(c.iterations) AS p
    WHERE jsonb_array_length(c.iterations) > 1 AND p ->> 'model' <> c.model AND (p ->> 'cost')::numeric <> 0
), apart AS (
    SELECT *, true AS attempt FROM earlier UNION ALL SELECT *, false FROM steps
), set_apart AS (
    SELECT id, {summed}, bool_or(attempt) AS attempts FROM apart GROUP BY id
), parts AS (
    SELECT c.id, c.provider_key_id, c.model, {own},
        c.estimated AND NOT coalesce(w.attempts, false)
            AND (a.late IS NOT TRUE OR a.reconciled IS TRUE) AS estimated, true AS own
    FROM calls c LEFT JOIN set_apart w ON w.id = c.id LEFT JOIN adjusted a ON a.entry_id = c.id
    UNION ALL
    SELECT id, provider_key_id, model, {plain}, attempt, false FROM apart
)
"""
# A part counts as a request if it used or cost something, or may have.
SUMS = """
SELECT p.provider_key_id, p.model, c.service_tier, c.speed, c.inference_geo,
    date_trunc('hour', c.admitted_at, 'UTC') AS admitted, date_trunc('hour', c.ended_at, 'UTC') AS ended, p.estimated,
    count(*) AS requests, {sums}, sum(greatest(0, c.held - coalesce(c.charge, c.cost) - coalesce(a.owed, 0))) AS room
FROM parts p JOIN calls c ON c.id = p.id LEFT JOIN adjusted a ON a.entry_id = c.id
WHERE p.provider_key_id IS NOT NULL AND (p.estimated OR p.cost <> 0 OR {used} <> 0)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""
ESTIMATES = """
SELECT p.id, p.provider_key_id, p.model, c.service_tier, c.speed, c.inference_geo,
    date_trunc('hour', c.admitted_at, 'UTC') AS admitted, date_trunc('hour', c.ended_at, 'UTC') AS ended,
    c.customer_id, c.status, c.held, c.charge IS NOT NULL AS has_charge,
    coalesce(c.charge, c.cost) + coalesce(a.owed, 0) AS owed, c.cost + coalesce(a.cost, 0) AS total, {plain}
FROM parts p JOIN calls c ON c.id = p.id LEFT JOIN adjusted a ON a.entry_id = c.id
WHERE p.provider_key_id = %(provider_key)s AND p.estimated
ORDER BY p.id
"""


def _sql(query: str) -> str:
    names = {
        "adjusted": ", ".join(f"sum(a.{name}) AS {name}" for name in _COLUMNS),
        "json": _JSON,
        "summed": ", ".join(f"sum({name}) AS {name}" for name in _COLUMNS),
        "own": ", ".join(f"c.{name} - coalesce(w.{name}, 0) + coalesce(a.{name}, 0) AS {name}" for name in _COLUMNS),
        "plain": ", ".join(_COLUMNS),
        "sums": ", ".join(f"sum(p.{name}) AS {name}" for name in _COLUMNS),
        "used": " + ".join(f"p.{name}" for name in TOKEN_TYPES),
    }
    if query is ESTIMATES:
        names["plain"] = ", ".join(f"p.{name}" for name in _COLUMNS)
        return PARTS.format(**names | {"plain": ", ".join(_COLUMNS)}) + query.format(**names)
    return (PARTS + query).format(**names)


SUMS_SQL, ESTIMATES_SQL = _sql(SUMS), _sql(ESTIMATES)


@dataclass(slots=True)
class Ours:
    """Sums of calls: all of them, and in `estimated_…` those that are estimates. `room`: what was held for the latter
    beyond what they count."""

    requests: int = 0
    estimated: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_TYPES, 0))
    estimated_tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_TYPES, 0))
    searches: int = 0
    estimated_searches: int = 0
    cost: Decimal = Decimal(0)
    estimated_cost: Decimal = Decimal(0)
    room: Decimal = Decimal(0)

    def add(self, row: dict[str, Any]) -> None:
        """Add a group of calls."""
        self.requests += row["requests"]
        self.searches += int(row["web_search_requests"])
        self.cost += row["cost"]
        for name in TOKEN_TYPES:
            self.tokens[name] += int(row[name])
        if row["estimated"]:
            self.estimated += row["requests"]
            self.estimated_searches += int(row["web_search_requests"])
            self.estimated_cost += row["cost"]
            self.room += row["room"]
            for name in TOKEN_TYPES:
                self.estimated_tokens[name] += int(row[name])

    def exact_tokens(self, name: str) -> int:
        """Tokens of a type, of the calls that aren't estimates."""
        return self.tokens[name] - self.estimated_tokens[name]


# A provider key, an hour, a model and a mode.
Place = tuple[int, datetime, str, str]


@dataclass(slots=True)
class Day:
    """Our calls of a day, by the hour in which they were admitted, and by that in which they ended."""

    by_admission: dict[Place, Ours] = field(default_factory=dict)
    by_completion: dict[Place, Ours] = field(default_factory=dict)


def range_of(start: datetime, end: datetime) -> dict[str, datetime]:
    """The values of the queries for a range of time."""
    return {"since": start, "until": end, "first": start - LONGEST_CALL - CLOCKS, "last": end + CLOCKS}


def of_day(start: datetime) -> Day:
    """What the ledger has of the day that begins then (UTC)."""
    found, end = Day(), start + DAY
    with connection.cursor() as cursor:
        cursor.execute(SUMS_SQL, range_of(start, end))
        names = [column.name for column in cursor.description or ()]
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            for hour, sums in ((row["admitted"], found.by_admission), (row["ended"], found.by_completion)):
                if start <= hour < end:
                    place = (row["provider_key_id"], hour, name_of(row["model"]), mode_of(row))
                    sums.setdefault(place, Ours()).add(row)
    return found


@dataclass(frozen=True, slots=True)
class Estimate:
    """A call whose amounts are an estimate, as it counts now.

    Attributes:
        cost: of the part that is one; `total`, `owed`: of the whole call, for us and for its owner.
        held: what was held for it, by what its owner pays.
    """

    id: UUID
    place: Place
    place_by_completion: Place
    customer_id: int
    status: str
    held: Decimal
    has_charge: bool
    owed: Decimal
    total: Decimal
    cost: Decimal
    tokens: dict[str, int]


def estimates(provider_key: int, start: datetime) -> list[Estimate]:
    """The estimates of a provider key on the day that begins then."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(ESTIMATES_SQL, range_of(start, start + DAY) | {"provider_key": provider_key})
        names = [column.name for column in cursor.description or ()]
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            rest = (name_of(row["model"]), mode_of(row))
            found.append(
                Estimate(
                    id=row["id"],
                    place=(provider_key, row["admitted"], *rest),
                    place_by_completion=(provider_key, row["ended"], *rest),
                    customer_id=row["customer_id"],
                    status=row["status"],
                    held=row["held"],
                    has_charge=row["has_charge"],
                    owed=row["owed"],
                    total=row["total"],
                    cost=row["cost"],
                    tokens={name: int(row[name]) for name in TOKEN_TYPES},
                )
            )
    return found
