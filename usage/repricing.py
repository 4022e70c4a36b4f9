"""Prices recorded calls again: first what would change, then adjustments. No row is changed.

A second run finds nothing to change, because it compares with what rows and adjustments already say. Rows are read in
pages, each in a short transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from keys.model_names import fold
from usage import closed, splits
from usage.models import Adjustment, LedgerEntry
from usage.price_rows import BEGINNING
from usage.pricing import ModelPrice, PriceBook, UnpricedModel, load_price_book
from usage.recomputed import Amounts, Recorded, recorded

# Rows of a transaction.
PAGE = 500
# Only one run writes at a time, so that two don't write the same difference.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('usage_repricing'))"
# Of the calls that are left out, how many are named.
NAMED = 20

Rows = QuerySet[LedgerEntry]


@dataclass(slots=True)
class ModelSum:
    """Calls of one model whose amounts change: how many, and their sums in USD before and after."""

    calls: int = 0
    old: Amounts = field(default_factory=Amounts)
    new: Amounts = field(default_factory=Amounts)

    def add(self, old: Amounts, new: Amounts) -> None:
        """Count one more call."""
        self.calls += 1
        self.old, self.new = replace(self.old + old, versions=()), replace(self.new + new, versions=())

    @property
    def cost_difference(self) -> Decimal:
        """What providers charge more, in USD."""
        return self.new.cost - self.old.cost

    @property
    def owed_difference(self) -> Decimal:
        """What owners pay more, in USD."""
        return self.new.owed - self.old.owed


@dataclass(slots=True)
class Outcome:
    """What a run changes, or would change.

    Attributes:
        read: the calls of the range; `models`: those that change, by model in small letters.
        closed: calls of closed months, which are left as they are.
        irregular: calls whose amounts don't follow from their tokens, and calls without a price; `named`: some of them.
    """

    read: int = 0
    models: dict[str, ModelSum] = field(default_factory=lambda: defaultdict(ModelSum))
    closed: int = 0
    irregular: int = 0
    named: list[LedgerEntry] = field(default_factory=list)

    @property
    def total(self) -> ModelSum:
        """The sum of all models."""
        total = ModelSum()
        for each in self.models.values():
            total.calls += each.calls
            total.old, total.new = total.old + each.old, total.new + each.new
        return total

    def by_model(self) -> list[tuple[str, ModelSum]]:
        """The models, the largest difference first."""
        return sorted(self.models.items(), key=lambda item: (-abs(item[1].owed_difference), item[0]))

    def leave_out(self, row: LedgerEntry) -> None:
        """Count a call that can't be priced again."""
        self.irregular += 1
        if len(self.named) < NAMED:
            self.named.append(row)


def is_closed(row: LedgerEntry, closed_until: Mapping[int, datetime]) -> bool:
    """Whether the month of a call is closed.

    Args:
        closed_until: from `usage.closed.until`.
    """
    ended = closed_until.get(row.customer_id)
    return ended is not None and row.admitted_at < ended


class Prices:
    """The prices of a run: own prices that are in force now, as if they had been in force at the time of each call, or
    with `as_then` those that were. List prices are those of the call's time.
    """

    def __init__(self, now: datetime, *, as_then: bool = False) -> None:
        self.then = load_price_book()
        self.book = self.then if as_then else as_of(self.then, now)

    def of(self, call: Recorded) -> Callable[[str, str], ModelPrice]:
        """What models cost this call."""
        return lambda provider, model: self.book.price(provider, model, call.row.admitted_at, call.owner)

    def of_then(self, call: Recorded) -> Callable[[str, str], ModelPrice]:
        """What models cost at the time of this call."""
        return lambda provider, model: self.then.price(provider, model, call.row.admitted_at, call.owner)


def as_of(book: PriceBook, moment: datetime) -> PriceBook:
    """A price book in which the own prices that are in force at a moment always are."""
    rows = (replace(row, valid_from=BEGINNING, valid_to=None) for row in book.rows if row.in_force(moment))
    return PriceBook(tuple(rows), book.policy)


def preview(rows: Rows, prices: Prices) -> Outcome:
    """What pricing these calls again would change."""
    outcome = Outcome()
    for page in pages(rows):
        judge(page, prices, outcome)
    return outcome


def reprice(rows: Rows, prices: Prices, *, reason: str, author: str) -> Outcome:
    """Price these calls again, and write the differences as adjustments. Budgets are charged in the windows of the
    calls."""
    outcome = Outcome()
    last = None
    while True:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(LOCK)
            page = next(pages(rows if last is None else rows.filter(id__gt=last)), [])
            Adjustment.objects.bulk_create(
                adjustment(call, new, reason, author) for call, new in judge(page, prices, outcome)
            )
        if len(page) < PAGE:
            return outcome
        last = page[-1].row.id


def pages(rows: Rows) -> Iterator[list[Recorded]]:
    """The calls in pages by id, each read by short queries."""
    ordered = rows.order_by("id").select_related("provider_key")
    page = list(ordered[:PAGE])
    while page:
        by_row = defaultdict(list)
        for one in Adjustment.objects.filter(entry_id__in=[row.id for row in page]).order_by("id"):
            by_row[one.entry_id].append(one)
        yield [recorded(row, by_row[row.id]) for row in page]
        page = list(ordered.filter(id__gt=page[-1].id)[:PAGE]) if len(page) == PAGE else []


def judge(page: list[Recorded], prices: Prices, outcome: Outcome) -> list[tuple[Recorded, Amounts]]:
    """The calls of a page whose amounts change, with the new ones; all are counted in the outcome."""
    changed, closed_until = [], closed.until()
    for call in page:
        outcome.read += 1
        if not (call.amounts.cost or call.amounts.owed or call.counts.prompt_tokens + call.counts.output_tokens):
            continue  # nothing was billed
        if is_closed(call.row, closed_until):
            outcome.closed += 1
            continue
        try:
            new = call.at(prices.of(call))
        except UnpricedModel:
            outcome.leave_out(call.row)
            continue
        if (new.cost, new.owed) == (call.amounts.cost, call.amounts.owed):
            continue
        if not call.is_regular(prices.of_then(call)):
            outcome.leave_out(call.row)
            continue
        outcome.models[fold(call.said["model"])].add(call.amounts, new)
        changed.append((call, new))
    return changed


def adjustment(call: Recorded, new: Amounts, reason: str, author: str) -> Adjustment:
    """The adjustment that makes a call cost as much."""
    detail: dict[str, Any] = {"reason": reason, "price_version": "; ".join(new.versions)}
    both = call.has_charge or new.differs
    return Adjustment(
        entry_id=call.row.id,
        reason=Adjustment.Reason.REPRICING,
        author=author,
        detail=detail,
        cost=new.cost - call.amounts.cost,
        charge=new.owed - call.amounts.owed if both else None,
        cost_split=splits.added(new.cost_split, call.amounts.cost_split, -1),
        charge_split=splits.added(new.owed_split, call.amounts.owed_split, -1) if both else None,
    )
