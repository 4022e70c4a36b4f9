"""What the page of one call shows beside its row: attempts on a time line, tokens with their prices, and budgets."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection

from keys import provider_kinds
from keys.visibility import visible
from usage import paid
from usage.budgets import Budget
from usage.cells import shown
from usage.models import Adjustment, LedgerEntry, Overrun
from usage.price_flags import PRICE_FLAGS
from usage.pricing import Owner, UnpricedModel, load_price_book
from usage.tokens import TOKEN_COLUMNS, TokenCounts

CHARGES = """
SELECT c.budget, c.start, c.amount, c.tokens FROM usage_ledgerentry e, unnest(e.charges) AS c WHERE e.id = %s
"""
# Each category of tokens, with the rate that it is billed at.
CATEGORIES = {
    "input_tokens": ("Input", "input"),
    "cache_read_input_tokens": ("Cache read", "cache_read"),
    "cache_creation_5m_input_tokens": ("Cache write, 5 min", "cache_write_5m"),
    "cache_creation_1h_input_tokens": ("Cache write, 1 h", "cache_write_1h"),
    "output_tokens": ("Output", "output"),
}
# Digits of a sum; smaller differences are shown as none.
SMALLEST = Decimal("0.000000000001")


@dataclass(frozen=True, slots=True)
class AttemptStep:
    """An attempt on the time line. Times in milliseconds since the first attempt; `start` and `width` in percent of the
    whole."""

    number: int
    provider_key: str
    model: str
    outcome: str
    failed: bool
    milliseconds: int
    first_byte_ms: int | None
    cost: Decimal
    provider_request_id: str
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the bill: USD per million tokens (of a search: each), and USD."""

    title: str
    count: int | None
    rate: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """What a budget was charged for the call."""

    title: str
    url_id: int | None
    amount: str
    start: Any


@dataclass(frozen=True, slots=True)
class Details:
    """The parts of the page. `flag`: why the cost is not just the list price."""

    steps: list[AttemptStep]
    lines: list[Line]
    charges: list[Charge]
    adjustments: list[Adjustment]
    overrun: Overrun | None
    flag: str

    @property
    def adjusted_cost(self) -> Decimal:
        """The sum of the adjustments, in USD."""
        return sum((one.cost for one in self.adjustments), Decimal(0))

    @property
    def adjusted_charge(self) -> Decimal:
        """The sum of what the owner pays for the adjustments, in USD."""
        return sum((one.owed for one in self.adjustments), Decimal(0))


def of(row: LedgerEntry, user: Any) -> Details:
    """The details of a ledger row for a person, in a fixed number of queries. To a person who may not see what
    providers charge, they say what the owner pays (usage/paid.py)."""
    costs = paid.sees_costs(user)
    adjustments = list(Adjustment.objects.filter(entry_id=row.pk).order_by("pk"))
    return Details(
        steps=steps(row),
        lines=bill(row, costs=costs),
        charges=charges(row, user),
        adjustments=adjustments if costs else [paid.adjustment_as_paid(one) for one in adjustments],
        overrun=Overrun.objects.filter(pk=row.pk).first(),
        flag=PRICE_FLAGS.get(row.price_flag, ""),
    )


def steps(row: LedgerEntry) -> list[AttemptStep]:
    """The attempts in order. The pauses between them are not recorded, so each begins where the one before ended."""
    attempts = row.attempts or []
    whole = max(1, row.duration_ms, sum(int(one.get("duration_ms") or 0) for one in attempts))
    found, at = [], 0
    for number, one in enumerate(attempts, 1):
        took = int(one.get("duration_ms") or 0)
        status, error = one.get("http_status"), str(one.get("error_type") or "")
        found.append(
            AttemptStep(
                number=number,
                provider_key=str(one.get("provider_key") or "–"),
                model=str(one.get("model") or "–"),
                outcome=" ".join(part for part in (f"HTTP {status}" if status else "no answer", error) if part),
                failed=bool(error) or status != 200,
                milliseconds=took,
                first_byte_ms=one.get("time_to_first_byte_ms"),
                cost=Decimal(str(one.get("cost") or 0)),
                provider_request_id=str(one.get("provider_request_id") or ""),
                start=round(at / whole * 100, 2),
                width=max(0.5, round(took / whole * 100, 2)),
            )
        )
        at += took
    return found


def bill(row: LedgerEntry, *, costs: bool = True) -> list[Line]:
    """The lines whose sum is the row's cost: tokens at the rates of the row's model at that time, and what else there
    is: a service tier, fast mode, a region, attempts before, or rates that have been corrected since."""
    counts = TokenCounts(*(getattr(row, name) for name in TOKEN_COLUMNS))
    region = row.provider_key.region if row.provider_key else ""
    try:
        owner = Owner(row.virtual_key_id, row.team_id, row.customer_id)
        sold_as = provider_kinds.find(row.provider).sold_as(region, row.model, "")
        price = load_price_book().price(row.provider, sold_as, row.admitted_at, owner)
    except (UnpricedModel, LookupError):
        return [Line("Total, of a model without a price now", None, None, row.cost)]
    price = price if costs else price.owed
    rates = price.for_tier(row.service_tier).at(counts.prompt_tokens // max(1, len(row.iterations)))
    lines = [
        Line(title, count, getattr(rates, rate), count * getattr(rates, rate) / 1_000_000)
        for name, (title, rate) in CATEGORIES.items()
        if (count := getattr(counts, name))
    ]
    if counts.web_search_requests:
        searches = counts.web_search_requests
        lines.append(Line("Web searches", searches, price.web_search, searches * price.web_search))
    rest = row.cost - sum((line.amount for line in lines), Decimal(0))
    if abs(rest) >= SMALLEST:
        lines.append(Line("Tier, mode, region, attempts before, or a price that has changed", None, None, rest))
    return lines


def charges(row: LedgerEntry, user: Any) -> list[Charge]:
    """What the call was charged to budgets. Of those that the person may not see, only the number is named."""
    with connection.cursor() as cursor:
        cursor.execute(CHARGES, [row.pk])
        found = cursor.fetchall()
    related = ("customer", "team__customer", "virtual_key__customer", "virtual_key__team__customer")
    budgets = visible(user, Budget.objects.select_related(*related)).in_bulk([budget for budget, *_ in found])
    return [
        Charge(
            str(budgets.get(budget, f"budget {budget}")),
            budget if budget in budgets else None,
            shown(amount, "tokens" if tokens else "usd"),
            start,
        )
        for budget, start, amount, tokens in found
    ]
