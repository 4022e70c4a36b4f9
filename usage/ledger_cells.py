"""The ledger and its adjustments as cells of `usage_rollup`: which column a row counts in, and how.

An adjustment counts in the cell of its call. It takes an estimate back if it settles the call after all.
"""

from __future__ import annotations

from usage.measures import BOUNDS, FURTHER_MONEY, HISTOGRAMS, MEASURES, elements, sums_of
from usage.summed import DIMENSIONS
from usage.tokens import TOKEN_COLUMNS
from usage.whose import whose

# The labels of a virtual key, as they were when a call was admitted, that are dimensions.
COST_CENTRES = ("cost_centre", "cost_center")
PROJECT = "project"
# The index can't hold longer names.
TIER_LENGTH, LABEL_LENGTH = 60, 100

COST_CENTRE = ", ".join(f"e.labels ->> '{name}'" for name in COST_CENTRES)
_CELL = f"""date_bin('15 minutes', e.admitted_at, '2000-01-01T00:00:00Z') AS bucket, e.customer_id, e.team_id,
    e.virtual_key_id, e.provider_key_id, e.model, e.status, e.provider,
    left(e.service_tier, {TIER_LENGTH}) AS service_tier, left(e.speed, {TIER_LENGTH}) AS speed, e.stream,
    left(coalesce({COST_CENTRE}, ''), {LABEL_LENGTH}) AS cost_centre,
    left(coalesce(e.labels ->> '{PROJECT}', ''), {LABEL_LENGTH}) AS project"""
_BOUNDS = f"ARRAY[{', '.join(map(str, BOUNDS))}]"
_SPLITS = "{0}.cost_split, CASE WHEN {0}.charge IS NULL THEN {0}.cost_split ELSE {0}.charge_split END AS charge_split"


def _class(milliseconds: str) -> str:
    return f"1 + width_bucket({milliseconds}, {_BOUNDS})"


def _plain(alias: str) -> str:
    columns = ", ".join(f"{alias}.{name}" for name in (*TOKEN_COLUMNS, "cost"))
    return f"{columns}, coalesce({alias}.charge, {alias}.cost) AS charge"


# Time is taken of answers that begin while their caller waits: not of batches, and not of what wasn't answered.
_TIMED = "e.time_to_first_byte_ms IS NOT NULL AND e.status = 'completed'"
_ENTRIES = f"""
    SELECT {_CELL}, 1 AS calls, e.estimated::integer AS estimated_calls, {_plain("e")},
        (e.price_flag = 'unpriced')::integer AS unpriced_calls, {whose("e")} AS whose,
        CASE WHEN {_TIMED} THEN e.duration_ms END AS duration_ms,
        CASE WHEN {_TIMED} THEN e.time_to_first_byte_ms END AS first_byte_ms,
        CASE WHEN {_TIMED} THEN {_class("e.duration_ms")} END AS duration_class,
        CASE WHEN {_TIMED} THEN {_class("e.time_to_first_byte_ms")} END AS first_byte_class,
        CASE WHEN e.estimated THEN e.cost END AS estimated_cost,
        CASE WHEN e.estimated THEN coalesce(e.charge, e.cost) END AS estimated_charge,
        CASE WHEN e.price_flag = 'unpriced' THEN e.cost END AS unpriced_cost,
        CASE WHEN e.price_flag = 'unpriced' THEN coalesce(e.charge, e.cost) END AS unpriced_charge,
        {_SPLITS.format("e")}
    FROM usage_ledgerentry e WHERE {{entries}}"""  # noqa: S608 - constants
_SETTLED = "a.reason = 'late_settlement' AND NOT coalesce((a.detail ->> 'estimated')::boolean, false)"
_ADJUSTMENTS = f"""
    SELECT {_CELL}, 0, 0, {_plain("a")}, 0, NULL, NULL, NULL, NULL, NULL,
        CASE WHEN NOT e.estimated THEN NULL WHEN {_SETTLED} THEN -e.cost ELSE a.cost END,
        CASE WHEN NOT e.estimated THEN NULL WHEN {_SETTLED} THEN -coalesce(e.charge, e.cost)
            ELSE coalesce(a.charge, a.cost) END,
        CASE WHEN e.price_flag = 'unpriced' THEN a.cost END,
        CASE WHEN e.price_flag = 'unpriced' THEN coalesce(a.charge, a.cost) END,
        {_SPLITS.format("a")}
    FROM usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id WHERE {{adjustments}}"""  # noqa: S608
_ROWS = f"{_ENTRIES} UNION ALL {_ADJUSTMENTS}"


def _histogram(measure: str, of: str) -> str:
    counts = elements(measure, f"nullif(count(*) FILTER (WHERE f.{of} = #), 0)")
    return f"CASE WHEN count(f.{of}) > 0 THEN {counts} END"


_SUMS = {
    **sums_of(MEASURES),
    "unpriced_calls": "sum(f.unpriced_calls)",
    **{
        name: f"count(*) FILTER (WHERE f.whose = '{of}')"
        for name, of in (("our_errors", "ours"), ("caller_errors", "callers"), ("provider_errors", "theirs"))
    },
    "timed_calls": "count(f.first_byte_ms)",
    **{name: f"coalesce(sum(f.{name}), 0)" for name in ("duration_ms", "first_byte_ms", *FURTHER_MONEY)},
    **sums_of(("cost_split", "charge_split")),
    **{name: _histogram(name, of) for name, of in zip(HISTOGRAMS, ("duration_class", "first_byte_class"), strict=True)},
}
_CELLS = f"""
SELECT {", ".join(("f.bucket", *(f"f.{name}" for name in DIMENSIONS)))},
    {", ".join(f"{expression} AS {name}" for name, expression in _SUMS.items())}, count(*) AS written
FROM ({_ROWS}) AS f GROUP BY {", ".join(map(str, range(1, len(DIMENSIONS) + 2)))}
"""  # noqa: S608 - constants

# The cells of what transactions within a range have written.
WRITTEN = _CELLS.format(
    entries="e.xid >= %(start)s::xid8 AND e.xid < %(end)s::xid8",
    adjustments="a.xid >= %(start)s::xid8 AND a.xid < %(end)s::xid8",
)
# The cells of what was admitted within a time, of the transactions that are rolled up.
ADMITTED = _CELLS.format(
    entries="e.admitted_at >= %(since)s AND e.admitted_at < %(until)s AND e.xid < %(end)s::xid8",
    adjustments="e.admitted_at >= %(since)s AND e.admitted_at < %(until)s AND a.xid < %(end)s::xid8",
)
