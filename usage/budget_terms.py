"""Budgets and limits as people write them (`100/month/soft`, `5000000tokens/day`), and putting them in force."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from keys import issuing, patterns
from keys.errors import Unusable
from keys.models import ProviderKey
from usage import owners
from usage.budgets import Budget, Enforcement, Limit, LimitKind, Period, TopUp, Unit
from usage.owners import Owner

PREPAID = "prepaid"
# How commands name the kinds of limits.
RATE_OPTIONS = {
    LimitKind.REQUESTS: "--rpm",
    LimitKind.INPUT_TOKENS: "--input-tpm",
    LimitKind.OUTPUT_TOKENS: "--output-tpm",
    LimitKind.PARALLEL: "--parallel",
}
PERIODS = [period.value for period in Period if period != Period.NONE] + [PREPAID]
EXAMPLE = "100/month, 5000000tokens/day or 20/week/soft"
# More than anybody has, and less than the columns take.
MOST = Decimal(10) ** 15


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget is to allow; `enforcement` is None where nothing is said about it."""

    amount: Decimal
    unit: Unit
    period: Period
    enforcement: Enforcement | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a budget or limit is for, beside its owner; together with unit and period, or with the kind, it says which
    one is meant. Limits never roll."""

    rolling: bool = False
    models: Sequence[str] = ()
    provider_key: ProviderKey | None = None


def parse(text: str, *, tokens: bool = False) -> Terms:
    """`AMOUNT/PERIOD[/KIND]`, in USD, or in tokens where the amount ends in `tokens` or `tokens` is true.

    Raises:
        Unusable: it is none; the message says which part is wrong.
    """
    amount, slash, rest = text.strip().partition("/")
    if not slash:
        raise Unusable(f"“{text}” is no budget: expected AMOUNT/PERIOD[/KIND], such as {EXAMPLE}")
    period, slash, kind = rest.partition("/")
    if slash and kind not in Enforcement.values:
        raise Unusable(f"“{kind}” in “{text}” is no kind of budget: expected {', '.join(Enforcement.values)}")
    counted = amount.removesuffix("tokens")
    terms = Terms(
        amount=parse_amount(counted),
        unit=Unit.TOKENS if tokens or counted != amount else Unit.USD,
        period=parse_period(period),
        enforcement=Enforcement(kind) if slash else None,
    )
    if terms.unit == Unit.TOKENS and terms.amount % 1:
        raise Unusable(f"“{amount}” is not a whole number of tokens")
    if terms.period == Period.NONE and terms.amount:
        raise Unusable(f"a prepaid balance begins with nothing: write 0/{PREPAID}, and then top it up")
    return terms


def parse_which(text: str, *, tokens: bool = False) -> Terms:
    """The terms by which a budget is found again: as `parse`, or without its amount.

    Raises:
        Unusable: it is neither.
    """
    return parse(text if re.match("[0-9]", text) else f"0/{text}", tokens=tokens)


def parse_period(text: str) -> Period:
    """A period, or `prepaid` for a balance without one.

    Raises:
        Unusable: it is none.
    """
    if text not in PERIODS:
        raise Unusable(f"“{text}” is no period: expected {', '.join(PERIODS)}")
    return Period.NONE if text == PREPAID else Period(text)


def parse_amount(text: str, *, signed: bool = False) -> Decimal:
    """A decimal number, at most 12 places after the point.

    Raises:
        Unusable: it is none, or too large.
    """
    if not re.fullmatch(rf"{'-?' if signed else ''}[0-9]{{1,16}}(\.[0-9]{{1,12}})?", text):
        raise Unusable(f"“{text}” is no amount: expected a number, such as 100 or 0.25")
    amount = Decimal(text)
    if abs(amount) > MOST:
        raise Unusable(f"{text} is more than a budget can be: at most {MOST:f}")
    return amount


def parse_thresholds(text: str) -> list[int]:
    """`50,80,100`: percentages, sorted; empty for none.

    Raises:
        Unusable: one is no whole number from 1 to 1000.
    """
    parts = [part.strip().removesuffix("%") for part in text.split(",") if part.strip()]
    return check_thresholds(int(part) if re.fullmatch(r"[0-9]{1,9}", part) else part for part in parts)


def check_thresholds(percentages: Iterable[int | str]) -> list[int]:
    """Thresholds as they are kept: each once, sorted.

    Raises:
        Unusable: one is no whole number from 1 to 1000.
    """
    found = set()
    for percent in percentages:
        if not isinstance(percent, int) or not 1 <= percent <= 1000:
            raise Unusable(f"“{percent}” is no threshold: expected percentages from 1 to 1000, such as 50,80,100")
        found.add(percent)
    return sorted(found)


def parse_rate(text: str, option: str) -> int:
    """How many a minute, or at once.

    Raises:
        Unusable: it is no whole number from 1.
    """
    if not re.fullmatch(r"[0-9]{1,16}", text) or not 1 <= int(text) <= MOST:
        raise Unusable(f"{option}: “{text}” is no limit: expected a whole number from 1")
    return int(text)


@transaction.atomic
def put(owner: Owner, terms: Terms, scope: Scope | None = None, thresholds: list[int] | None = None) -> Budget:
    """Make the budget, or change the one that there is: then what isn't said stays as it is. To say it again changes
    nothing.

    Raises:
        Unusable: these terms go with no such owner, or a pattern is none.
    """
    scope = scope or Scope()
    for pattern in scope.models:
        issuing.check_pattern(pattern)
    one_at_a_time(owner)
    budget = next(iter(find(owner, terms, scope)), None)
    if budget is None:
        budget = Budget(
            unit=terms.unit,
            period=terms.period,
            rolling=scope.rolling,
            model_patterns=list(scope.models),
            provider_key=scope.provider_key,
        )
        setattr(budget, owners.field(owner), owner)
    if terms.period != Period.NONE:
        budget.amount = terms.amount
    budget.enforcement = terms.enforcement or budget.enforcement
    if thresholds is not None:
        budget.thresholds = thresholds
    with refused():
        budget.full_clean()
    if budget.pk:
        # Not its amount, where top-ups move it meanwhile.
        changed = ["enforcement", "thresholds", *(["amount"] if terms.period != Period.NONE else [])]
        budget.save(update_fields=changed)
    else:
        budget.save()
    return budget


@transaction.atomic
def take_away(owner: Owner, terms: Terms, scope: Scope | None = None) -> list[Budget]:
    """Delete the budget of these terms, whatever its amount; empty where there is none."""
    one_at_a_time(owner)
    found = find(owner, terms, scope or Scope())
    for budget in found:
        budget.delete_softly()
    return found


def find(owner: Owner, terms: Terms, scope: Scope) -> list[Budget]:
    """The active budgets of an owner that are of this unit, period and scope: one, unless others were made by hand."""
    alike = Budget.objects.filter(
        **{owners.field(owner): owner},
        active=True,
        unit=terms.unit,
        period=terms.period,
        rolling=scope.rolling,
        provider_key=scope.provider_key,
    )
    return [budget for budget in alike.order_by("pk") if patterns.alike(budget.model_patterns, scope.models)]


def one_at_a_time(owner: Owner) -> None:
    """Until the transaction ends, nobody else makes or takes away budgets and limits of this owner here."""
    type(owner)._default_manager.select_for_update(no_key=True).get(pk=owner.pk)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a limit is to allow. What isn't said of one that there is stays as it is.

    Attributes:
        burst: 0 for the usual one (usage_bucket in usage/sql/bursts.sql).
    """

    kind: LimitKind
    rate: int
    burst: int | None = None
    count_cached: bool | None = None


@transaction.atomic
def put_limit(owner: Owner, pace: Pace, scope: Scope | None = None) -> Limit:
    """Make the limit, or change the one that there is; to say it again changes nothing.

    Raises:
        Unusable: these terms go with no such kind or owner, or a pattern is none.
    """
    scope = scope or Scope()
    for pattern in scope.models:
        issuing.check_pattern(pattern)
    one_at_a_time(owner)
    limit = next(iter(find_limits(owner, pace.kind, scope)), None)
    if limit is None:
        limit = Limit(kind=pace.kind, model_patterns=list(scope.models), provider_key=scope.provider_key)
        setattr(limit, owners.field(owner), owner)
    limit.rate = pace.rate
    if pace.burst is not None:
        limit.burst = pace.burst or None
    if pace.count_cached is not None:
        limit.count_cached = pace.count_cached
    with refused():
        limit.full_clean()
    limit.save(update_fields=["rate", "burst", "count_cached"] if limit.pk else None)
    return limit


@transaction.atomic
def take_away_limits(owner: Owner, kind: LimitKind, scope: Scope | None = None) -> list[Limit]:
    """Delete the limit of this kind and scope, whatever its rate; empty where there is none."""
    one_at_a_time(owner)
    found = find_limits(owner, kind, scope or Scope())
    for limit in found:
        limit.delete_softly()
    return found


def find_limits(owner: Owner, kind: LimitKind, scope: Scope) -> list[Limit]:
    """The active limits of an owner that are of this kind and scope: one, unless others were made by hand."""
    alike = Limit.objects.filter(
        **{owners.field(owner): owner}, active=True, kind=kind, provider_key=scope.provider_key
    )
    return [limit for limit in alike.order_by("pk") if patterns.alike(limit.model_patterns, scope.models)]


def top_up(owner: Owner, amount: Decimal, *, tokens: bool = False, reason: str, author: str) -> TopUp:
    """Add to the owner's prepaid balance, or take away from it where the amount is negative.

    Raises:
        Unusable: it has none, or several, or the reason is empty.
    """
    unit = Unit.TOKENS if tokens else Unit.USD
    prepaid = Budget.objects.filter(**{owners.field(owner): owner}, active=True, period=Period.NONE, unit=unit)
    found = list(prepaid[:2])
    name = f"“{owner}” has {{}} prepaid balance{' of tokens' if tokens else ''}"
    if not found:
        raise Unusable(f"{name.format('no')}: make one with set_budget OWNER 0{'tokens' if tokens else ''}/{PREPAID}")
    if len(found) > 1:
        raise Unusable(f"{name.format('more than one')}: top up the right one in the admin")
    if not reason.strip():
        raise Unusable("say why: --reason is kept with it for ever")
    with refused():
        return found[0].top_up(amount, reason=reason.strip(), author=author.strip())


@contextmanager
def refused() -> Iterator[None]:
    """Turn what a model refuses into a refusal that names the field.

    Raises:
        Unusable: with all that the model said.
    """
    try:
        yield
    except ValidationError as error:
        by_field = getattr(error, "error_dict", None)
        said = (
            [
                f"{name}: {text}" if name != "__all__" else text
                for name, texts in error.message_dict.items()
                for text in texts
            ]
            if by_field
            else error.messages
        )
        raise Unusable("; ".join(said)) from None
