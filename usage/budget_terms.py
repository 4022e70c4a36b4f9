"""Budgets and limits as text (`100/month/soft`, `5000000tokens/day`): parsing, creating, changing, deleting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from django.db import transaction

from keys import issuing, patterns
from keys.errors import Unusable, refused
from keys.models import ProviderKey
from usage import owners
from usage.budgets import MOST, Budget, Enforcement, Period, TopUp, Unit
from usage.limits import Limit, LimitKind
from usage.owners import Owner

PREPAID = "prepaid"
# The option of each kind of limit in commands.
RATE_OPTIONS = {
    LimitKind.REQUESTS: "--rpm",
    LimitKind.INPUT_TOKENS: "--input-tpm",
    LimitKind.OUTPUT_TOKENS: "--output-tpm",
    LimitKind.PARALLEL: "--parallel",
}
PERIODS = [period.value for period in Period if period != Period.NONE] + [PREPAID]
EXAMPLE = "100/month, 5000000tokens/day or 20/week/soft"
Row = TypeVar("Row", Budget, Limit)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget allows. `enforcement` is None if the text names none."""

    amount: Decimal
    unit: Unit
    period: Period
    enforcement: Enforcement | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a budget or limit applies to, apart from its owner.

    Owner, scope, unit and period identify a budget; owner, scope and kind identify a limit. Limits never roll.
    """

    rolling: bool = False
    models: Sequence[str] = ()
    provider_key: ProviderKey | None = None


def parse(text: str, *, tokens: bool = False) -> Terms:
    """Parse `AMOUNT/PERIOD[/KIND]`: in tokens if the amount ends in `tokens` or `tokens` is true, else in USD.

    Raises:
        Unusable: the text can't be parsed; the message says which part is wrong.
    """
    amount, slash, rest = text.strip().partition("/")
    if not slash:
        raise Unusable(f"“{text}” isn't a budget: expected AMOUNT/PERIOD[/KIND], such as {EXAMPLE}")
    period, slash, kind = rest.partition("/")
    if slash and kind not in Enforcement.values:
        raise Unusable(f"“{kind}” in “{text}” isn't a kind of budget: expected {', '.join(Enforcement.values)}")
    counted = amount.removesuffix("tokens")
    terms = Terms(
        amount=parse_amount(counted),
        unit=Unit.TOKENS if tokens or counted != amount else Unit.USD,
        period=parse_period(period),
        enforcement=Enforcement(kind) if slash else None,
    )
    if terms.unit == Unit.TOKENS and terms.amount % 1:
        raise Unusable(f"“{amount}” isn't a whole number of tokens")
    if terms.period == Period.NONE and terms.amount:
        raise Unusable(f"a prepaid balance starts at 0: write 0/{PREPAID}, then add to it with top_up")
    return terms


def parse_which(text: str, *, tokens: bool = False) -> Terms:
    """Parse the terms that identify an existing budget: like `parse`, but the amount may be left out.

    Raises:
        Unusable: the text can't be parsed.
    """
    return parse(text if re.match("[0-9]", text) else f"0/{text}", tokens=tokens)


def parse_period(text: str) -> Period:
    """Parse a period; `prepaid` stands for a balance without windows.

    Raises:
        Unusable: the text isn't a period.
    """
    if text not in PERIODS:
        raise Unusable(f"“{text}” isn't a period: expected {', '.join(PERIODS)}")
    return Period.NONE if text == PREPAID else Period(text)


def parse_amount(text: str, *, signed: bool = False) -> Decimal:
    """Parse a decimal number with at most 12 decimal places.

    Raises:
        Unusable: the text isn't a number, or the number is too large.
    """
    if not re.fullmatch(rf"{'-?' if signed else ''}[0-9]{{1,16}}(\.[0-9]{{1,12}})?", text):
        raise Unusable(f"“{text}” isn't an amount: expected a number, such as 100 or 0.25")
    amount = Decimal(text)
    if abs(amount) > MOST:
        raise Unusable(f"{text} is too large: a budget can be at most {MOST:f}")
    return amount


def parse_thresholds(text: str) -> list[int]:
    """Parse percentages such as `50,80,100` into a sorted list; an empty text gives an empty list.

    Raises:
        Unusable: one isn't a whole number from 1 to 1000.
    """
    parts = [part.strip().removesuffix("%") for part in text.split(",") if part.strip()]
    return check_thresholds(int(part) if re.fullmatch(r"[0-9]{1,9}", part) else part for part in parts)


def check_thresholds(percentages: Iterable[int | str]) -> list[int]:
    """Thresholds as they are stored: sorted, without duplicates.

    Raises:
        Unusable: one isn't a whole number from 1 to 1000.
    """
    found = set()
    for percent in percentages:
        if not isinstance(percent, int) or not 1 <= percent <= 1000:
            raise Unusable(f"“{percent}” isn't a threshold: expected percentages from 1 to 1000, such as 50,80,100")
        found.add(percent)
    return sorted(found)


def parse_rate(text: str, option: str) -> int:
    """Parse a limit: a number per minute, or of calls at once.

    Raises:
        Unusable: the text isn't a whole number of at least 1.
    """
    if not re.fullmatch(r"[0-9]{1,16}", text) or not 1 <= int(text) <= MOST:
        raise Unusable(f"{option}: “{text}” isn't a limit: expected a whole number of at least 1")
    return int(text)


@transaction.atomic
def put(owner: Owner, terms: Terms, scope: Scope | None = None, thresholds: list[int] | None = None) -> Budget:
    """Create the budget, or change the existing one. Terms that are left out keep their current values; repeating a
    call changes nothing.

    Raises:
        Unusable: the terms don't fit the owner, or a model pattern is malformed.
    """
    scope = scope or Scope()
    budget = found_or_new(Budget, owner, scope, unit=terms.unit, period=terms.period, rolling=scope.rolling)
    if terms.period != Period.NONE:
        budget.amount = terms.amount
    budget.enforcement = terms.enforcement or budget.enforcement
    if thresholds is not None:
        budget.thresholds = thresholds
    # The amount of a prepaid budget is left out: a concurrent top-up may have changed it.
    return save(budget, ["enforcement", "thresholds", *(["amount"] if terms.period != Period.NONE else [])])


@transaction.atomic
def remove(owner: Owner, terms: Terms, scope: Scope | None = None) -> list[Budget]:
    """Delete the budget of these terms, whatever its amount. The list is empty if no budget matches."""
    scope = scope or Scope()
    return delete(Budget, owner, scope, unit=terms.unit, period=terms.period, rolling=scope.rolling)


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """What a limit allows. Where a value is None, an existing limit keeps its current one.

    Attributes:
        burst: 0 for the default (usage_bucket in usage/arbiter/applying.sql).
    """

    kind: LimitKind
    rate: int
    burst: int | None = None
    count_cached: bool | None = None


@transaction.atomic
def put_limit(owner: Owner, pace: LimitTerms, scope: Scope | None = None) -> Limit:
    """Create the limit, or change the existing one; repeating a call changes nothing.

    Raises:
        Unusable: the terms don't fit the kind or the owner, or a model pattern is malformed.
    """
    limit = found_or_new(Limit, owner, scope or Scope(), kind=pace.kind)
    limit.rate = pace.rate
    if pace.burst is not None:
        limit.burst = pace.burst or None
    if pace.count_cached is not None:
        limit.count_cached = pace.count_cached
    return save(limit, ["rate", "burst", "count_cached"])


@transaction.atomic
def remove_limits(owner: Owner, kind: LimitKind, scope: Scope | None = None) -> list[Limit]:
    """Delete the limit of this kind and scope, whatever its rate. The list is empty if no limit matches."""
    return delete(Limit, owner, scope or Scope(), kind=kind)


@transaction.atomic
def change(row: Row, values: Mapping[str, Any]) -> Row:
    """Change a budget or limit that isn't deleted, and return it. Owner, scope and kind stay as they are.

    Args:
        values: by field: `active`; a budget's `amount`, `enforcement` and `thresholds`; a limit's `rate`, `burst` and
            `count_cached`.

    Raises:
        Unusable: it is deleted, a value is invalid, or the amount of a prepaid budget was to be changed.
    """
    found: Row = type(row)._default_manager.select_for_update(no_key=True).get(pk=row.pk)
    if found.deleted_at is not None:
        raise Unusable("it is deleted: create another one")
    if isinstance(found, Budget) and found.period == Period.NONE and values.get("amount", found.amount) != found.amount:
        raise Unusable("the amount of a prepaid budget is the sum of its top-ups: top it up", {"amount": []})
    for name, value in values.items():
        setattr(found, name, value)
    return save(found, values)


@transaction.atomic
def save(row: Row, changed: Iterable[str] = ()) -> Row:
    """Save a new budget or limit, or the changed fields of another one. Pages, REST and commands save here.

    Raises:
        Unusable: the owner has such a one already or can't have one, or the terms are invalid.
    """
    if (owner := row.virtual_key or row.team or row.customer) is not None:
        lock(owner)
    if isinstance(row, Budget):
        row.thresholds = check_thresholds(row.thresholds)
    with refused():
        row.full_clean()
    row.save(update_fields=list(changed) if row.pk else None)
    return row


def lock(owner: Owner) -> None:
    """Lock the owner until the transaction ends, so that two people can't create the same budget or limit."""
    type(owner)._default_manager.select_for_update(no_key=True).get(pk=owner.pk)


def found_or_new(model: type[Row], owner: Owner, scope: Scope, **terms: Any) -> Row:
    """The owner's budget or limit with this scope and these terms, or a new one that isn't saved yet.

    Raises:
        Unusable: a model pattern is malformed.
    """
    for pattern in scope.models:
        issuing.check_pattern(pattern)
    if found := find(model, owner, scope, **terms):
        return found[0]
    row = model(**terms, model_patterns=list(scope.models), provider_key=scope.provider_key)
    setattr(row, owners.field(owner), owner)
    return row


def delete(model: type[Row], owner: Owner, scope: Scope, **terms: Any) -> list[Row]:
    """Delete what `find` returns."""
    found = find(model, owner, scope, **terms)
    for row in found:
        row.delete_softly()
    return found


def find(model: type[Row], owner: Owner, scope: Scope, **terms: Any) -> list[Row]:
    """The owner's active budgets or limits with this scope and these terms: one at most, unless an earlier version has
    added more. The owner stays locked until the transaction ends."""
    lock(owner)
    active = model._default_manager.filter(**{owners.field(owner): owner}, active=True, **terms)
    rows = active.filter(provider_key=scope.provider_key).order_by("pk")
    return [row for row in rows if patterns.alike(row.model_patterns, scope.models)]


def top_up(owner: Owner, amount: Decimal, *, tokens: bool = False, reason: str, author: str) -> TopUp:
    """Add to the owner's prepaid balance; a negative amount reduces it.

    Raises:
        Unusable: the owner has no prepaid balance or more than one, or the reason is empty.
    """
    unit = Unit.TOKENS if tokens else Unit.USD
    prepaid = Budget.objects.filter(**{owners.field(owner): owner}, active=True, period=Period.NONE, unit=unit)
    found = list(prepaid[:2])
    name = f"“{owner}” has {{}} prepaid balance{' of tokens' if tokens else ''}"
    if not found:
        raise Unusable(f"{name.format('no')}: create one with set_budget OWNER 0{'tokens' if tokens else ''}/{PREPAID}")
    if len(found) > 1:
        raise Unusable(f"{name.format('more than one')}: top up the right one in the admin")
    if not reason.strip():
        raise Unusable("--reason is empty: say why; the reason is stored with the top-up")
    with refused():
        return found[0].top_up(amount, reason=reason.strip(), author=author.strip())
