"""What budgets keep held for interrupted calls: how much, for which call, since when; and giving it back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import JSONField, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from usage import ledger
from usage.budgets import Unit


class Retained(models.Model):
    """What stays held for an interrupted call beyond its estimate, because its actual cost isn't known. It is released
    when the call is settled late, when an administrator gives it back, or after `retained_seconds`."""

    id = models.UUIDField(primary_key=True)
    retained_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "retained amount"

    def __str__(self) -> str:
        return str(self.id)


def with_amounts(rows: QuerySet[Retained]) -> QuerySet[Retained]:
    """Annotate rows with `call` and `amounts`.

    `call` has the virtual key, its owner, the model, and the estimated cost from the ledger row; it is None if the row
    is gone. `amounts` is a list with, for each budget, its number, the amount (a string), unit, period and owner.
    """
    return rows.annotate(
        call=RawSQL(
            """(
                SELECT jsonb_build_object('virtual_key', v.name, 'owner', concat_ws(' / ', u.name, t.name),
                    'model', e.requested_model, 'estimate', trim_scale(usage_owed(e.charge, e.cost))::text)
                FROM usage_ledgerentry e LEFT JOIN keys_virtualkey v ON v.id = e.virtual_key_id
                LEFT JOIN keys_team t ON t.id = e.team_id
                LEFT JOIN keys_customer u ON u.id = e.customer_id WHERE e.id = usage_retained.id
            )""",
            [],
            JSONField(),
        ),
        amounts=RawSQL(
            """(
                SELECT jsonb_agg(jsonb_build_object('budget', c.budget, 'amount', trim_scale(c.amount)::text,
                    'unit', CASE WHEN c.tokens THEN 'tokens' ELSE 'usd' END, 'period', b.period,
                    'owner', CASE WHEN v.id IS NOT NULL THEN 'virtual key ' || v.name || ' of '
                            WHEN t.id IS NOT NULL THEN 'team ' ELSE 'customer ' END
                        || concat_ws(' / ', u.name, t.name)) ORDER BY c.budget)
                FROM unnest(usage_retained.charges) AS c LEFT JOIN usage_budget b ON b.id = c.budget
                LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
                LEFT JOIN keys_team t ON t.id = coalesce(b.team_id, v.team_id)
                LEFT JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id)
            )""",
            [],
            JSONField(),
        ),
    )


def older_than(age: timedelta) -> QuerySet[Retained]:
    """What has been retained for longer than `age`, oldest first."""
    return Retained.objects.filter(retained_at__lt=timezone.now() - age).order_by("retained_at", "pk")


def give_back(rows: QuerySet[Retained]) -> list[Any]:
    """Give back what is retained for these calls; return the rows given back, as `with_amounts` annotates them. A call
    that is settled in the meantime is left out."""
    return [row for row in with_amounts(rows) if ledger.give_back_of(row.pk)]


def amounts_of(row: Any) -> list[str]:
    """What is retained for a call, in words per budget: `$0.31 of the budget per day of team Acme / Sales`."""
    return [f"{amount(each)} {budget(each)}" for each in row.amounts or ()]


def amount(retained: dict[str, str]) -> str:
    """The amount that one budget retains, in words."""
    number = Decimal(retained["amount"])
    return f"{number:,f} tokens" if retained["unit"] == Unit.TOKENS else f"${number:,f}"


def budget(retained: dict[str, str]) -> str:
    """The budget that retains it, in words."""
    period = "prepaid balance" if retained["period"] == "none" else f"budget per {retained['period']}"
    return f"of the {period} of {retained['owner']}"
