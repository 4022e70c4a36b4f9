"""What follows from the demo's calls: amounts of budgets, top-ups, alerts that were raised, and refused calls."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Max

from keys.demo_data import DemoData
from usage.alerts import Unsent
from usage.budgets import Budget, Enforcement, Period, TopUp, Unit, Window
from usage.demo.cast import Cast
from usage.demo.options import Options

# Of 100 budgets, as many are used up in their fullest window; the others have this much room, in percent.
USED_UP, ROOM = 12, 130
# Refused calls, against all calls of the same days.
REFUSED = 0.012
REFUSALS = (
    (30, 429, "rate_limit_error", "limit", "The limit of requests a minute is reached."),
    (22, 429, "rate_limit_error", "budget", "The budget has too little left for this call."),
    (14, 403, "permission_error", "model_not_allowed", "This key may not use this model."),
    (10, 401, "authentication_error", "revoked", "This key was revoked."),
    (6, 401, "authentication_error", "expired", "This key has expired."),
    (10, 400, "invalid_request_error", "invalid_request", "max_tokens: Field required"),
    (4, 404, "not_found_error", "unknown_model", "There is no such model."),
    (3, 503, "api_error", "provider_failing", "The provider failed."),
    (1, 503, "overloaded_error", "overloaded", "The gateway is overloaded."),
)
ADD_REFUSALS = """
INSERT INTO usage_refusal (id, refused_at, http_status, error_type, reason, message, endpoint, credential_hint,
    virtual_key_id, requested_model, count)
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3) || '8'
        || substr(digest, 4, 15))::uuid,
    at, (r ->> 1)::integer, r ->> 2, r ->> 3, r ->> 4, 'messages', '', key, 'claude-opus-5-5', 1
FROM (
    -- Some calls of the last days, a minute later.
    SELECT key, md5(%(seed)s || 'refusal' || n) AS digest, begin + scale * interval '1 day'
            * ((hashint8extended(n, %(seed)s + 31) & 1048575) / 1048576.0) AS at,
        slots ->> (hashint8extended(n, %(seed)s + 32) & 1023)::integer %% jsonb_array_length(slots) AS slot
    FROM (SELECT c.*, first + i AS n, %(slots)s::jsonb AS slots
        FROM demo_cell c, generate_series(0, c.calls - 1) AS i WHERE begin >= %(since)s) AS c
    WHERE (hashint8extended(n, %(seed)s + 33) & 1048575) < 1048576 * %(share)s
) AS c CROSS JOIN LATERAL (SELECT %(kinds)s::jsonb -> slot::integer) AS k (r)
"""
# Alerts of the windows whose thresholds were passed, as if there were no target: demo data sends no message.
ADD_ALERTS = """
INSERT INTO usage_alert (budget_id, start, threshold, spent, amount, at, delivered_at, unsent)
SELECT w.budget_id, w.start, passed.percent, round(b.amount * passed.percent / 100, 2), b.amount,
    w.start + (least(w.until, %(until)s) - w.start) * least(0.99, (b.amount * passed.percent / 100 / w.spent)::float8),
    NULL, %(unsent)s
FROM usage_window w JOIN usage_budget b ON b.id = w.budget_id, unnest(b.thresholds) AS passed (percent)
WHERE b.id >= %(first)s AND b.amount > 0 AND w.spent * 100 >= b.amount * passed.percent
ON CONFLICT DO NOTHING
"""


def finish(mark: DemoData, options: Options, made: Cast) -> None:
    """Add it all. Call it in a transaction, after all parts."""
    budgets = list(Budget.objects.filter(pk__in=[budget.pk for budget in made.budgets]).order_by("pk"))
    _set_amounts(budgets)
    _top_up([budget for budget in budgets if budget.period == Period.NONE], options)
    _refuse(options)
    with connection.cursor() as cursor:
        cursor.execute(
            ADD_ALERTS, {"first": mark.options["first"]["budget"], "until": options.until, "unsent": Unsent.NO_TARGET}
        )


def _set_amounts(budgets: list[Budget]) -> None:
    """Round amounts with room above the fullest window, or (some) just enough for it. Soft ones are passed."""
    fullest: dict[int, Decimal] = dict(
        Window.objects.filter(budget__in=budgets).values_list("budget").annotate(spent=Max("spent"))
    )
    for budget in budgets:
        if budget.period == Period.NONE:
            continue
        spent = max(fullest.get(budget.pk, Decimal(0)), Decimal(1))
        soft = budget.enforcement == Enforcement.SOFT
        if budget.pk * 37 % 100 < USED_UP * (3 if soft else 1):
            budget.amount = _rounded(spent * Decimal("0.9")) if soft else _enough(spent, budget.unit)
        else:
            budget.amount = _rounded(spent * (ROOM + budget.pk * 53 % 90) / 100)
    Budget.objects.bulk_update([each for each in budgets if each.period != Period.NONE], ["amount"], batch_size=1000)


def _rounded(amount: Decimal) -> Decimal:
    """Up to two digits that people would choose."""
    step = Decimal(5).scaleb(amount.adjusted() - 1)
    return (amount / step).to_integral_value(ROUND_CEILING) * step


def _enough(spent: Decimal, unit: str) -> Decimal:
    """As little as covers what was spent, so that the budget refuses the next calls."""
    step = Decimal(1) if unit == Unit.TOKENS else Decimal("0.01")
    return (spent / step).to_integral_value(ROUND_CEILING) * step


def _top_up(prepaid: list[Budget], options: Options) -> None:
    """A top-up a month. The sum is a little more than what was spent."""
    for budget in prepaid:
        spent = Window.objects.filter(budget=budget).values_list("spent", flat=True).first() or Decimal(0)
        months = max(1, options.months)
        each = max(_rounded(spent / months), Decimal(1))
        left = _enough(spent * Decimal("1.02") + 1, budget.unit)
        for month in range(months):
            amount = min(each, left) if month < months - 1 else left
            if amount <= 0:
                break
            left -= amount
            at = options.since + (options.until - options.since) * month / months
            TopUp.objects.create(
                budget=budget, amount=amount, reason=f"purchase order {4100 + month}", author="finance", created_at=at
            )


def _refuse(options: Options) -> None:
    since = options.until - timedelta(days=settings.CONFIGURATION.refusal_days)
    slots = [number for number, kind in enumerate(REFUSALS) for _ in range(kind[0])]
    with connection.cursor() as cursor:
        cursor.execute(
            ADD_REFUSALS,
            {
                "seed": options.seed * 1000,
                "since": max(since, options.since),
                "share": REFUSED,
                "kinds": json.dumps(REFUSALS),
                "slots": json.dumps(slots),
            },
        )
