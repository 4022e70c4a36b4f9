"""Adjusts our estimates to what the provider reports: offered for hours, models and keys whose request counts agree.

The difference goes to the estimated calls in proportion to what was held for them, never above that and never below
nothing. A preview by customer comes first. A second run finds nothing to change; a run can be taken back as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from django.db import connection, transaction
from django.db.models import QuerySet

from keys.errors import Conflict, Unusable
from keys.models import Customer, ProviderKey
from reconciliation import comparing, ours
from reconciliation.adjustment_runs import AdjustmentRun
from reconciliation.comparisons import Comparison, DatedBy
from reconciliation.freshness import DAY
from reconciliation.ours import Estimate
from reconciliation.reads import TOKEN_TYPES
from usage import ledger
from usage.models import Adjustment, Status

LOCK = "SELECT pg_advisory_xact_lock(hashtext('reconciliation_adjusting'))"
PLACES = Decimal(1).scaleb(-12)
# The most that a run may be about.
MOST_DAYS = 31


@dataclass(frozen=True, slots=True)
class Change:
    """What an estimated call gets: more (or less) cost, charge and tokens."""

    call: Estimate
    cost: Decimal
    charge: Decimal
    tokens: dict[str, int]


@dataclass(slots=True)
class CustomerSum:
    """Changes of a customer's calls; money in USD."""

    customer: Customer
    calls: int = 0
    before: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    charge: Decimal = Decimal(0)


@dataclass(slots=True)
class Preview:
    """What adjustments would change.

    Attributes:
        changes: by call; `offered`: how many hours, models and modes they are of.
        left: what can't be placed, because it would pass what was held, in USD.
    """

    changes: list[Change] = field(default_factory=list)
    offered: int = 0
    left: Decimal = Decimal(0)

    @property
    def cost(self) -> Decimal:
        """What providers charge more."""
        return sum((each.cost for each in self.changes), Decimal(0))

    @property
    def charge(self) -> Decimal:
        """What owners pay more."""
        return sum((each.charge for each in self.changes), Decimal(0))

    def by_customer(self) -> list[CustomerSum]:
        """The sums of each customer, by name."""
        names = Customer.objects.in_bulk({each.call.customer_id for each in self.changes})
        sums = {pk: CustomerSum(customer) for pk, customer in names.items()}
        for each in self.changes:
            one = sums[each.call.customer_id]
            one.calls += 1
            one.before += each.call.owed
            one.cost += each.cost
            one.charge += each.charge
        return sorted(sums.values(), key=lambda one: one.customer.name)


def offers(provider_key: ProviderKey, since: datetime, until: datetime) -> QuerySet[Comparison]:
    """The comparisons of a range that have something to adjust."""
    return Comparison.objects.filter(provider_key=provider_key, start__gte=since, start__lt=until).exclude(adjustable=0)


def preview(provider_key: ProviderKey, since: datetime, until: datetime) -> Preview:
    """What adjusting the estimates of a range of days would change.

    Raises:
        Unusable: the range is too long.
    """
    if until - since > MOST_DAYS * DAY:
        raise Unusable(f"these are more than {MOST_DAYS} days: choose a shorter range")
    found, per_day = Preview(), defaultdict[datetime, list[Comparison]](list)
    for row in offers(provider_key, since, until).order_by("start", "id"):
        per_day[row.start.replace(hour=0)].append(row)
    for day, rows in per_day.items():
        calls = ours.estimates(provider_key.pk, day)
        for row in rows:
            found.offered += 1
            changes, left = of_cell(row, calls)
            found.changes += changes
            found.left += left
    return found


def of_cell(row: Comparison, calls: Iterable[Estimate]) -> tuple[list[Change], Decimal]:
    """The changes of a comparison's estimated calls, and what can't be placed."""
    place = (row.provider_key_id, row.start, row.model, row.mode)
    completed = row.dated_by == DatedBy.COMPLETION
    mine = [call for call in calls if (call.place_by_completion if completed else call.place) == place]
    amount = row.adjustable.quantize(PLACES, ROUND_HALF_EVEN)
    # An owner may pay another amount than the provider charges. What was held is in the owner's money.
    factors = [call.owed / call.total if call.has_charge and call.total > 0 else Decimal(1) for call in mine]
    most = [
        max(Decimal(0), ((call.held - call.owed) / factor if factor else Decimal(0)).quantize(PLACES, ROUND_DOWN))
        for call, factor in zip(mine, factors, strict=True)
    ]
    least = [max(Decimal(0), min(call.cost, call.total)) for call in mine]
    shares = placed(amount, [call.held for call in mine], most if amount > 0 else least)
    tokens = tokens_of(row, mine, shares)
    changes = []
    for call, factor, share, counts in zip(mine, factors, shares, tokens, strict=True):
        if share or any(counts.values()):
            charge = (share * factor).quantize(PLACES, ROUND_DOWN)
            changes.append(Change(call, share, charge, counts))
    return changes, amount - sum(shares)


def placed(amount: Decimal, weights: Sequence[Decimal], most: Sequence[Decimal]) -> list[Decimal]:
    """An amount in proportion to weights, where each part has at most so much room; what doesn't fit is left out.

    Args:
        most: the room of each part, for a negative amount by how much it may fall.
    """
    sign = -1 if amount < 0 else 1
    left, shares = abs(amount), [Decimal(0)] * len(weights)
    open_ = [index for index, weight in enumerate(weights) if weight > 0 and most[index] > 0]
    while left > 0 and open_:
        whole = sum(weights[index] for index in open_)
        full = [index for index in open_ if left * weights[index] >= (most[index] - shares[index]) * whole]
        if not full:
            rest = left
            for index in open_[:-1]:
                part = (left * weights[index] / whole).quantize(PLACES, ROUND_DOWN)
                shares[index] += part
                rest -= part
            last = open_[-1]
            shares[last] += min(rest, most[last] - shares[last])
            break
        for index in full:
            left -= most[index] - shares[index]
            shares[index] = most[index]
        open_ = [index for index in open_ if index not in full]
    return [sign * share for share in shares]


def tokens_of(row: Comparison, calls: Sequence[Estimate], shares: Sequence[Decimal]) -> list[dict[str, int]]:
    """How the difference of tokens is given to the calls that change, in proportion to what was held."""
    found: list[dict[str, int]] = [dict.fromkeys(TOKEN_TYPES, 0) for _ in calls]
    changed = [index for index, share in enumerate(shares) if share]
    weights = [calls[index].held for index in changed]
    whole = sum(weights)
    if not whole:
        return found
    for name in TOKEN_TYPES:
        difference = row.detail["theirs"][name] - row.detail["dated_tokens"][name]
        done, passed = 0, Decimal(0)
        for index, weight in zip(changed, weights, strict=True):
            passed += weight
            upto = int(difference * passed / whole)
            found[index][name] = max(upto - done, -calls[index].tokens[name])
            done = upto
    return found


@transaction.atomic
def adjust(
    provider_key: ProviderKey, since: datetime, until: datetime, *, reason: str, author: str
) -> AdjustmentRun | None:
    """Write the adjustments of a range; None: there is nothing to change. Budgets are charged in the windows of the
    calls, and what was retained for interrupted calls is given back.

    Raises:
        Unusable: there is no reason, or the range is too long.
    """
    reason = checked(reason)
    days = _lock_and_compare(provider_key, since, until)
    found = preview(provider_key, since, until)
    if not found.changes:
        return None
    run = AdjustmentRun.objects.create(
        provider_key=provider_key,
        since=since,
        until=until,
        reason=reason,
        author=author,
        calls=len({each.call.id for each in found.changes}),
        cost=found.cost,
        charge=found.charge,
    )
    Adjustment.objects.bulk_create(adjustment(run, each) for each in found.changes)
    for each in found.changes:
        if each.call.status == Status.INTERRUPTED:
            ledger.give_back_of(each.call.id)
    _compare(days)
    return run


def adjustment(run: AdjustmentRun, change: Change) -> Adjustment:
    """The adjustment of a call."""
    return Adjustment(
        entry_id=change.call.id,
        reason=Adjustment.Reason.RECONCILIATION,
        author=run.author,
        detail={"run": run.pk, "reason": run.reason},
        cost=change.cost,
        charge=change.charge if change.call.has_charge else None,
        **change.tokens,
    )


@transaction.atomic
def take_back(run: AdjustmentRun, *, reason: str, author: str) -> AdjustmentRun:
    """Write a counter-adjustment for each adjustment of a run.

    Raises:
        Conflict: it was taken back before, or is itself the taking back of another one.
        Unusable: there is no reason.
    """
    reason = checked(reason)
    with connection.cursor() as cursor:
        cursor.execute(LOCK)
    if run.undoes_id is not None:
        raise Conflict("this run takes another one back: adjust the estimates again instead")
    if AdjustmentRun.objects.filter(undoes=run).exists():
        raise Conflict("these adjustments were taken back before")
    counter = AdjustmentRun.objects.create(
        provider_key=run.provider_key,
        since=run.since,
        until=run.until,
        reason=reason,
        author=author,
        calls=run.calls,
        cost=-run.cost,
        charge=-run.charge,
        undoes=run,
    )
    written = Adjustment.objects.filter(reason=Adjustment.Reason.RECONCILIATION, detail__run=run.pk)
    Adjustment.objects.bulk_create(
        Adjustment(
            entry_id=one.entry_id,
            reason=Adjustment.Reason.RECONCILIATION,
            author=author,
            detail={"run": counter.pk, "undoes": run.pk, "reason": reason},
            cost=-one.cost,
            charge=None if one.charge is None else -one.charge,
            **{name: -getattr(one, name) for name in TOKEN_TYPES},
        )
        for one in written.order_by("id")
    )
    _compare(days_of(run.provider_key, run.since, run.until))
    return counter


def checked(reason: str) -> str:
    """The reason.

    Raises:
        Unusable: it is empty, or it is too long.
    """
    reason = reason.strip()
    if not reason or len(reason) > 200:
        raise Unusable("give a reason of at most 200 characters: it is stored with each adjustment")
    return reason


def days_of(provider_key: ProviderKey, since: datetime, until: datetime) -> list[tuple[comparing.Source, datetime]]:
    """The days of a range that were compared, with the source of their figures."""
    rows = Comparison.objects.filter(provider_key=provider_key, start__gte=since, start__lt=until)
    found = {}
    for row in rows.select_related("admin_key", "bill_format").order_by("start"):
        source = row.admin_key or row.bill_format
        assert source is not None
        found[source._meta.model_name, source.pk, row.start.replace(hour=0)] = (source, row.start.replace(hour=0))
    return list(found.values())


def _lock_and_compare(
    provider_key: ProviderKey, since: datetime, until: datetime
) -> list[tuple[comparing.Source, datetime]]:
    """One run writes at a time, by what the ledger says now."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK)
    adjustable = set(offers(provider_key, since, until).values_list("start", flat=True))
    days = {start.replace(hour=0) for start in adjustable}
    found = [(source, day) for source, day in days_of(provider_key, since, until) if day in days]
    _compare(found)
    return found


def _compare(days: Iterable[tuple[comparing.Source, datetime]]) -> None:
    for source, day in days:
        comparing.compare_day(source, day)
