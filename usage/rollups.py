"""Roll-ups: the ledger summed per quarter of an hour (UTC, by time of admission), and per owner and day
(usage/owner_days.py). Reports read nothing else.

Rows are added in the order of the transactions that wrote them: a row is added once its transaction is older than every
running one. Ids and timestamps can't be used for that, because rows are committed in another order than their calls are
admitted.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists
from django.utils import timezone

from usage.models import Rollup, RollupState
from usage.owner_days import ADD_OWNERS
from usage.tokens import TOKEN_COLUMNS

# Rows per transaction, so that each stays short even if many rows are waiting.
PART = 20_000

CELL = ("bucket", "customer_id", "team_id", "virtual_key_id", "provider_key_id", "model", "status")
MEASURES = ("calls", "estimated_calls", *TOKEN_COLUMNS, "cost", "charge")

# The end (exclusive) of the next part, which starts at the first transaction that isn't rolled up yet.
NEXT_PART = """
WITH horizon AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid),
part AS (
    SELECT l.xid FROM usage_ledgerentry l, horizon
    WHERE l.xid >= %(start)s::xid8 AND l.xid < horizon.xid ORDER BY l.xid LIMIT %(part)s
)
SELECT CASE WHEN (SELECT count(*) FROM part) < %(part)s THEN horizon.xid::text::numeric
    ELSE (SELECT max(xid::text::numeric) FROM part) + 1 END
FROM horizon
"""


def _sum(alias: str) -> str:
    columns = (*TOKEN_COLUMNS, "cost")
    return ", ".join(
        (*(f"{alias}.{column}" for column in columns), f"usage_owed({alias}.charge, {alias}.cost) AS charge")
    )


# Cells from before there were charges have none: they are what the calls cost.
_MORE = {measure: f"usage_rollup.{measure}" for measure in MEASURES} | {
    "charge": "usage_owed(usage_rollup.charge, usage_rollup.cost)"
}


ADD = f"""
WITH fresh AS (
    SELECT date_bin('15 minutes', e.admitted_at, '2000-01-01T00:00:00Z') AS bucket, e.customer_id, e.team_id,
        e.virtual_key_id, e.provider_key_id, e.model, e.status, 1 AS calls, e.estimated::integer AS estimated_calls,
        {_sum("e")}
    FROM usage_ledgerentry e WHERE e.xid >= %(start)s::xid8 AND e.xid < %(end)s::xid8
    UNION ALL
    SELECT date_bin('15 minutes', e.admitted_at, '2000-01-01T00:00:00Z'), e.customer_id, e.team_id, e.virtual_key_id,
        e.provider_key_id, e.model, e.status, 0, 0, {_sum("a")}
    FROM usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id
    WHERE a.xid >= %(start)s::xid8 AND a.xid < %(end)s::xid8
), written AS (
    INSERT INTO usage_rollup ({", ".join((*CELL, *MEASURES))})
    SELECT {", ".join(CELL)}, {", ".join(f"sum({measure})" for measure in MEASURES)}
    FROM fresh GROUP BY {", ".join(CELL)} ORDER BY {", ".join(CELL)}
    ON CONFLICT ({", ".join(CELL)}) DO UPDATE
    SET {", ".join(f"{measure} = {before} + excluded.{measure}" for measure, before in _MORE.items())}
), owned AS ({ADD_OWNERS.format(fresh="fresh")})
SELECT count(*) FROM fresh
"""  # noqa: S608 - constants


def roll_up() -> int:
    """Add what was written since the last time; return the number of ledger rows and adjustments added.

    It is safe to run it twice or in parallel: each part is added in one transaction with the record of its end.
    """
    total = 0
    while True:
        added, more = _roll_up_part()
        total += added
        if not more:
            return total


def freshen(age: timedelta = timedelta(minutes=1)) -> datetime | None:
    """Roll up, unless that was done within `age` or is being done now; return when it was last done.

    As long as there are no roll-ups at all, it is done in any case: a newcomer's first call must not seem lost.
    """
    with transaction.atomic():
        states = RollupState.objects.annotate(empty=~Exists(Rollup.objects.order_by()))
        state = states.select_for_update(skip_locked=True, of=("self",)).first()
        if state is not None and (
            state.empty or state.rolled_up_at is None or state.rolled_up_at < timezone.now() - age
        ):
            roll_up()
    return RollupState.objects.values_list("rolled_up_at", flat=True).first()


def rebuild() -> int:
    """Delete the roll-ups and sum the whole ledger again. Until that is done, reports show too little."""
    with transaction.atomic(), connection.cursor() as cursor:
        _lock()
        cursor.execute("DELETE FROM usage_rollup; DELETE FROM usage_ownerday")
        RollupState.objects.update(xid="0", rolled_up_at=None)
    return roll_up()


def _lock() -> RollupState:
    """The state, locked, so that other processes that roll up wait."""
    return RollupState.objects.select_for_update().get()


def _roll_up_part() -> tuple[int, bool]:
    """Add one part; return the number of its rows, and whether there may be more."""
    with transaction.atomic(), connection.cursor() as cursor:
        state = _lock()
        cursor.execute(NEXT_PART, {"start": state.xid, "part": PART})
        end = str(int(cursor.fetchone()[0]))
        cursor.execute(ADD, {"start": state.xid, "end": end})
        added: int = cursor.fetchone()[0]
        state.xid, state.rolled_up_at = end, timezone.now()
        state.save(update_fields=["xid", "rolled_up_at"])
    return added, added >= PART
