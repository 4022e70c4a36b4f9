"""The current state of budgets and limits: queries without locks, so that no call waits for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, DateTimeField, DecimalField, F, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from usage.budgets import Budget
from usage.limits import Limit

# All budgets and limits of a virtual key, its team and its customer, as one JSON object. A budget without a current
# window shows the window that the next call would open; a rolling budget shows none, since its window would begin at
# the time of that call.
STANDING = """
WITH caller AS MATERIALIZED (
    SELECT v.id, v.name, t.name AS team, u.name AS customer, u.time_zone, u.fiscal_year_month, usage_now() AS moment,
        ARRAY[v.customer_id * 4, v.team_id * 4 + 1, v.id * 4 + 2] AS owners
    FROM keys_virtualkey v JOIN keys_customer u ON u.id = v.customer_id LEFT JOIN keys_team t ON t.id = v.team_id
    WHERE v.id = %(virtual_key)s
)
SELECT json_build_object('virtual_key', c.name, 'team', c.team, 'customer', c.customer, 'time_zone', c.time_zone,
    'as_of', c.moment,
    'budgets', (
        SELECT coalesce(json_agg(json_build_object(
            'owner', b.owner %% 4, 'provider_key', p.name, 'models', b.model_patterns, 'unit', b.unit,
            'period', b.period, 'rolling', b.rolling, 'enforcement', b.enforcement,
            'amount', trim_scale(allowed.amount)::text, 'spent', trim_scale(coalesce(w.spent, 0))::text,
            'held', trim_scale(coalesce(w.held, 0))::text,
            'left', trim_scale(allowed.amount - coalesce(w.spent + w.held, 0))::text,
            'exhausted_since', usage_exhausted_since(b, w.start, c.moment),
            'starts_at', nullif(coalesce(w.start, next.start), 'epoch'), 'resets_at', coalesce(w.until, next.until)
        ) ORDER BY b.owner %% 4, b.id), '[]')
        FROM usage_budget b
        LEFT JOIN keys_providerkey p ON p.id = b.provider_key_id
        LEFT JOIN LATERAL usage_current(b.id, c.moment) AS w ON true
        LEFT JOIN LATERAL usage_window_at(b.period, false, c.time_zone, c.fiscal_year_month, c.moment) AS next
            ON w.start IS NULL AND NOT b.rolling,
        LATERAL usage_allowed(b.id, b.amount, c.moment) AS allowed
        WHERE b.owner = ANY (c.owners) AND b.active),
    'limits', (
        SELECT coalesce(json_agg(json_build_object(
            'owner', l.owner %% 4, 'provider_key', p.name, 'models', l.model_patterns, 'kind', l.kind, 'limit', l.rate,
            'burst', usage_bucket(l.kind, l.rate, l.burst),
            'remaining', usage_remaining(l.kind, l.rate, l.burst, s.full_at, s.running, c.moment),
            'resets_at', CASE WHEN l.kind <> 'parallel' THEN greatest(s.full_at, c.moment) END
        ) ORDER BY l.owner %% 4, l.id), '[]')
        FROM usage_limit l
        LEFT JOIN keys_providerkey p ON p.id = l.provider_key_id
        LEFT JOIN usage_limitstate s ON s.limit_id = l.id
        WHERE l.owner = ANY (c.owners) AND l.active))
FROM caller c
"""


def with_standing(budgets: QuerySet[Budget]) -> QuerySet[Budget]:
    """Annotate budgets with `allowed`, their current amount, and the state of their current window: `spent`, `held`,
    `left`, `exhausted_since` (when it first refused a call) and `resets_at`. `spent` and `held` are 0 without a window.
    """
    money = DecimalField(max_digits=30, decimal_places=12)
    nothing = Value(Decimal(0), output_field=money)
    counted = budgets.annotate(
        allowed=RawSQL(
            "(SELECT a.amount FROM usage_allowed(usage_budget.id, usage_budget.amount, usage_now()) AS a)", [], money
        ),
        spent=Coalesce(
            RawSQL("(SELECT w.spent FROM usage_current(usage_budget.id, usage_now()) AS w)", [], money), nothing
        ),
        held=Coalesce(
            RawSQL("(SELECT w.held FROM usage_current(usage_budget.id, usage_now()) AS w)", [], money), nothing
        ),
        exhausted_since=RawSQL(
            """usage_exhausted_since(
                usage_budget, (SELECT w.start FROM usage_current(usage_budget.id, usage_now()) AS w), usage_now())""",
            [],
            DateTimeField(),
        ),
        resets_at=RawSQL("(SELECT w.until FROM usage_current(usage_budget.id, usage_now()) AS w)", [], DateTimeField()),
    )
    return counted.annotate(left=F("allowed") - F("spent") - F("held"))


def with_limit_standing(limits: QuerySet[Limit]) -> QuerySet[Limit]:
    """Annotate limits with `remaining`, what is left of them now, and `bucket`, the burst of a full bucket."""
    return limits.annotate(
        bucket=RawSQL("usage_bucket(usage_limit.kind, usage_limit.rate, usage_limit.burst)", [], BigIntegerField()),
        remaining=RawSQL(
            """coalesce((
                SELECT usage_remaining(
                    usage_limit.kind, usage_limit.rate, usage_limit.burst, s.full_at, s.running, usage_now())
                FROM usage_limitstate s WHERE s.limit_id = usage_limit.id
            ), usage_remaining(usage_limit.kind, usage_limit.rate, usage_limit.burst, NULL, NULL, usage_now()))""",
            [],
            BigIntegerField(),
        ),
    )


def at_once(limit: Limit) -> int | None:
    """The burst of a limit; None for a limit of calls at once."""
    found: Any = with_limit_standing(Limit.objects.filter(pk=limit.pk)).get()
    bucket: int | None = found.bucket
    return bucket
