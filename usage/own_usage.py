"""The usage of one virtual key and what its owner pays for it: exact, also where the roll-ups lag. Other keys and
their calls don't make it slower.

Roll-ups are found by bucket, customer, team and key: each quarter of an hour is one look-up in their index. What they
don't have yet is read from the ledger. One statement reads both, so that nothing is counted twice or missed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from keys.connection import Values
from usage.tokens import TOKEN_COLUMNS

# The most lines (a day and a model) of an answer, and the longest range.
MOST_LINES = 5000
MOST_DAYS = 31
# The range that is shown where none is asked for: today (UTC) is the last of its days.
DEFAULT_SPAN = timedelta(days=30)

MEASURES = ("calls", "estimated_calls", *TOKEN_COLUMNS, "cost")


def _sums(alias: str) -> str:
    columns = (f"{alias}.{column}" for column in TOKEN_COLUMNS)
    return ", ".join((*columns, f"usage_owed({alias}.charge, {alias}.cost) AS cost"))


_ROLLED_UP = f"r.calls, r.estimated_calls, {_sums('r')}"


# A key that has moved has roll-ups under each of its teams: the audit log names the former ones. An adjustment counts
# on the day of its call. The id of a ledger row has the time of another clock than `admitted_at`: its range is wider.
_CELLS = f"""
teams AS MATERIALIZED (
    SELECT c.team_id FROM caller c WHERE c.team_id IS NOT NULL
    UNION
    SELECT (a.changes -> 'team_id' ->> side)::bigint
    FROM caller c JOIN keys_auditevent a ON a.table_name = 'keys_virtualkey' AND a.object = c.id::text,
        unnest(ARRAY['from', 'to']) AS side
    WHERE a.changes -> 'team_id' ->> side ~ '^[0-9]{{1,18}}$'
),
buckets AS MATERIALIZED (
    SELECT generate_series(
        date_bin('15 minutes', s.start, '2000-01-01T00:00:00Z'), least(s.until, usage_now()) - interval '1 microsecond',
        '15 minutes') AS bucket
    FROM span s
),
cells AS (
    SELECT r.bucket AS moment, r.model, {_ROLLED_UP}
    FROM caller c, teams t, buckets b JOIN LATERAL (
        SELECT * FROM usage_rollup r WHERE r.bucket = b.bucket AND r.customer_id = c.customer_id
            AND r.team_id = t.team_id AND r.virtual_key_id = c.id OFFSET 0) AS r ON true
    UNION ALL
    SELECT r.bucket, r.model, {_ROLLED_UP}
    FROM caller c, buckets b JOIN LATERAL (
        SELECT * FROM usage_rollup r WHERE r.bucket = b.bucket AND r.customer_id = c.customer_id
            AND r.team_id IS NULL AND r.virtual_key_id = c.id OFFSET 0) AS r ON true
    UNION ALL
    SELECT e.admitted_at, e.model, 1, e.estimated::integer, {_sums("e")}
    FROM span s, usage_ledgerentry e
    WHERE e.virtual_key_id = %(virtual_key)s AND e.xid >= (SELECT xid FROM usage_rollupstate LIMIT 1)::xid8
        AND e.id >= usage_first_id(s.start - interval '1 day') AND e.id < usage_first_id(s.until + interval '1 day')
        AND e.admitted_at >= s.start AND e.admitted_at < s.until
    UNION ALL
    SELECT e.admitted_at, e.model, 0, 0, {_sums("a")}
    FROM span s, usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id
    WHERE e.virtual_key_id = %(virtual_key)s AND a.xid >= (SELECT xid FROM usage_rollupstate LIMIT 1)::xid8
        AND e.admitted_at >= s.start AND e.admitted_at < s.until
)
"""  # noqa: S608 - constants

_CALLER = """
WITH caller AS MATERIALIZED (
    SELECT v.id, v.customer_id, v.team_id, u.time_zone, u.fiscal_year_month
    FROM keys_virtualkey v JOIN keys_customer u ON u.id = v.customer_id WHERE v.id = %(virtual_key)s
),
"""

# What a virtual key has cost since the month began in its customer's time zone, as one JSON object.
THIS_MONTH = f"""{_CALLER}
span AS MATERIALIZED (
    SELECT w.start, w.until FROM caller c,
        LATERAL usage_window_at('month', false, c.time_zone, c.fiscal_year_month, usage_now()) AS w
),
{_CELLS}
SELECT json_build_object('starts_at', s.start, 'ends_at', s.until, 'calls', t.calls,
    'spent', trim_scale(t.cost)::text)
FROM span s, (SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(cost), 0) AS cost FROM cells) AS t
"""  # noqa: S608 - constants

# Its usage from `start` until before `until`, both the beginning of a day in UTC: a row for each day and model, the
# days in order and the most expensive model of each day first.
BY_DAY = f"""{_CALLER}
span AS MATERIALIZED (SELECT %(start)s::timestamptz AS start, %(until)s::timestamptz AS until),
{_CELLS}
SELECT (moment AT TIME ZONE 'UTC')::date AS day, lower(model COLLATE "C") AS model,
    {", ".join(f"sum({measure})::{'numeric' if measure == 'cost' else 'bigint'} AS {measure}" for measure in MEASURES)}
FROM cells GROUP BY 1, 2 ORDER BY 1, sum(cost) DESC, 2 LIMIT {MOST_LINES + 1}
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What a key used of one model on one day in UTC. The cost is what its owner pays, in USD."""

    day: date
    model: str
    calls: int
    estimated_calls: int
    input_tokens: int
    output_tokens: int
    thinking_tokens: int
    cache_read_input_tokens: int
    cache_creation_5m_input_tokens: int
    cache_creation_1h_input_tokens: int
    web_search_requests: int
    cost: Decimal


# Runs a query, and returns its rows.
Fetch = Callable[[str, Values], Awaitable[list[tuple[Any, ...]]]]


async def between(fetch: Fetch, virtual_key: int, start: datetime, until: datetime) -> tuple[list[DayUsage], bool]:
    """What a key used from `start` until before `until`, both the beginning of a day in UTC: a line for each day and
    model, and whether there are more than `MOST_LINES`."""
    rows = await fetch(BY_DAY, {"virtual_key": virtual_key, "start": start, "until": until})
    return [DayUsage(*row) for row in rows[:MOST_LINES]], len(rows) > MOST_LINES


def tomorrow() -> datetime:
    """The end of today, in UTC."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)
