"""A team's rules for its keys: what a new key gets if nothing is said, and what the team's admins can't pass.

A ceiling is kept by what applies to the key. “At most $100 a month” means that the key has a hard budget of at most
$100 a month for all models: further budgets can only narrow it. So a person who is bound by a ceiling can neither issue
a key without such a budget, nor raise, switch off or delete it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

from keys import patterns, viewer
from keys.errors import Unusable, refused
from keys.models import Team, VirtualKey
from usage import budget_terms
from usage.amounts import usd
from usage.budget_terms import LimitTerms, Terms
from usage.budgets import MONEY, MOST, Budget, Enforcement, Override, Period, Unit, length
from usage.limits import Limit, LimitKind

MOST_DAYS = 3650
PERIODS = [(value, label) for value, label in Period.choices if value != Period.NONE]
BUDGET, EXPIRY, MODELS = "budget", "expires_at", "allowed_models"


def _amount(label: str, text: str) -> Any:
    return models.DecimalField(label, **MONEY, null=True, blank=True, validators=[MinValueValidator(0)], help_text=text)


def _rate(label: str, text: str) -> Any:
    validators = [MinValueValidator(1), MaxValueValidator(int(MOST))]
    return models.PositiveBigIntegerField(label, null=True, blank=True, validators=validators, help_text=text)


def _days(label: str, text: str) -> Any:
    validators = [MinValueValidator(1), MaxValueValidator(MOST_DAYS)]
    return models.PositiveIntegerField(label, null=True, blank=True, validators=validators, help_text=text)


UNSAID = "For a new key, if nothing is said."
CEILING = "A team admin can't pass it."


class KeyRules(models.Model):
    """The rules of one team. An empty default is the ceiling, if there is one."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="key_rules")
    period = models.CharField(
        "budget period", max_length=10, choices=PERIODS, default=Period.MONTH, help_text="Of both amounts."
    )
    budget = _amount("budget (USD)", UNSAID)
    most_budget = _amount("highest budget (USD)", CEILING)
    rpm = _rate("requests a minute", UNSAID)
    most_rpm = _rate("most requests a minute", CEILING)
    input_tpm = _rate("input tokens a minute", UNSAID)
    most_input_tpm = _rate("most input tokens a minute", CEILING)
    output_tpm = _rate("output tokens a minute", UNSAID)
    most_output_tpm = _rate("most output tokens a minute", CEILING)
    parallel = _rate("calls at once", UNSAID)
    most_parallel = _rate("most calls at once", CEILING)
    days = _days("days until it expires", UNSAID)
    most_days = _days("most days until it expires", CEILING)
    allowed_models = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check]),
        default=list,
        blank=True,
        help_text="Names and patterns (claude-*), separated by commas. A team admin can't allow others.",
    )

    class Meta:
        verbose_name = "rules for a team's keys"
        verbose_name_plural = "rules for its keys"

    def __str__(self) -> str:
        return f"rules for the keys of {self.team}"

    def clean(self) -> None:
        """Refuse a default above its ceiling, and an amount that no budget may have.

        Raises:
            ValidationError: by field.
        """
        faults = {
            name: f"An amount can be at most {MOST:f}."
            for name in ("budget", "most_budget")
            if (getattr(self, name) or 0) > MOST
        }
        faults |= {
            name: "This is above the ceiling: lower it, or raise the ceiling."
            for name in ("budget", *LimitKind.values, "days")
            if None not in (value := getattr(self, name), most := getattr(self, f"most_{name}")) and value > most
        }
        if faults:
            raise ValidationError(faults)

    def default(self, name: str) -> Any:
        """What a key gets if nothing is said: the default, or else the ceiling."""
        value = getattr(self, name)
        return getattr(self, f"most_{name}") if value is None else value

    def said(self) -> list[tuple[str, str, str]]:
        """The rules in words: what each is about, the default and the ceiling."""
        of = f" {length(self.period)}"
        found = [("Budget", _usd(self.default("budget"), of), _usd(self.most_budget, of))]
        for kind in LimitKind:
            found.append((kind.label.capitalize(), _number(self.default(kind.value)), _number(self._most(kind.value))))
        found.append(("Days until it expires", _number(self.default("days")), _number(self.most_days)))
        models_ = ", ".join(self.allowed_models)
        found.append(("Models", models_, models_))
        return [rule for rule in found if rule[1] or rule[2]]

    def _most(self, name: str) -> int | None:
        most: int | None = getattr(self, f"most_{name}")
        return most


def _usd(amount: Decimal | None, of: str) -> str:
    return "" if amount is None else f"{usd(amount)}{of}"


def _number(value: int | None) -> str:
    return "" if value is None else viewer.number(value)


def of_team(team: Team | None) -> KeyRules | None:
    """The rules of a team; None for a team without rules, and for keys without a team."""
    return None if team is None else KeyRules.objects.filter(team=team).first()


@transaction.atomic
def put(team: Team, values: Mapping[str, Any] | None) -> KeyRules | None:
    """Set rules of a team, or remove them all. Repeating a call changes nothing.

    Args:
        values: by field. Those that are left out stay, and new rules have their defaults. None removes the rules.

    Raises:
        Unusable: a value is invalid, or a default is above its ceiling.
    """
    Team.objects.select_for_update(no_key=True, of=("self",)).get(pk=team.pk)
    rules = of_team(team)
    if values is None:
        if rules is not None:
            rules.delete()
        return None
    rules = rules or KeyRules(team=team)
    for name, value in values.items():
        setattr(rules, name, value)
    with refused():
        rules.full_clean()
    rules.save()
    return rules


def fill_terms(rules: KeyRules, virtual_key: VirtualKey) -> None:
    """Set what a new key, which isn't saved yet, doesn't say: its models and its expiry."""
    if not virtual_key.allowed_models:
        virtual_key.allowed_models = list(rules.allowed_models)
    if virtual_key.expires_at is None and (days := rules.default("days")) is not None:
        virtual_key.expires_at = timezone.now() + timedelta(days=days)


def fill_budget(rules: KeyRules, virtual_key: VirtualKey) -> list[Budget]:
    """Give a new key the default budget."""
    amount = rules.default("budget")
    if amount is None:
        return []
    return [budget_terms.put(virtual_key, Terms(amount, Unit.USD, Period(rules.period), Enforcement.HARD))]


def fill_limits(rules: KeyRules, virtual_key: VirtualKey, given: Iterable[Limit]) -> list[Limit]:
    """Give a new key the default limits of the kinds that it has none of."""
    has = {limit.kind for limit in given if not limit.model_patterns and limit.provider_key_id is None}
    rates = {kind: rules.default(kind.value) for kind in LimitKind if kind not in has}
    return [budget_terms.put_limit(virtual_key, LimitTerms(kind, rate)) for kind, rate in rates.items() if rate]


def faults(rules: KeyRules, virtual_key: VirtualKey, about: Iterable[str]) -> dict[str, str]:
    """What passes a ceiling, in sentences.

    Args:
        about: what to look at: `BUDGET`, `EXPIRY`, `MODELS`, and kinds of limits.
    """
    found = {}
    for name in about:
        if name == BUDGET:
            fault = _budget_fault(rules, virtual_key)
        elif name == EXPIRY:
            fault = _expiry_fault(rules, virtual_key)
        elif name == MODELS:
            fault = _models_fault(rules, virtual_key)
        else:
            fault = _limit_fault(rules, virtual_key, LimitKind(name))
        if fault:
            found[name] = fault
    return found


ABOUT = (BUDGET, *LimitKind.values, EXPIRY, MODELS)


def check(rules: KeyRules | None, virtual_key: VirtualKey, about: Iterable[str] = ABOUT) -> None:
    """Refuse a saved key that passes a ceiling.

    Raises:
        Unusable: with what passes it, by field.
    """
    found = faults(rules, virtual_key, about) if rules is not None else {}
    if found:
        raise Unusable("; ".join(found.values()), {name: [fault] for name, fault in found.items()})


def _whole(rows: Any, virtual_key: VirtualKey) -> Any:
    """The key's active budgets or limits that no model and no provider key narrows."""
    return rows.filter(virtual_key=virtual_key, active=True, model_patterns=[], provider_key=None)


def _budget_fault(rules: KeyRules, virtual_key: VirtualKey) -> str:
    if rules.most_budget is None:
        return ""
    budgets = _whole(Budget.objects, virtual_key).filter(
        unit=Unit.USD, period=rules.period, enforcement=Enforcement.HARD, amount__lte=rules.most_budget
    )
    higher = Override.objects.filter(amount__gt=rules.most_budget, until__gt=timezone.now())
    if budgets.exclude(pk__in=higher.values("budget")).exists():
        return ""
    most = _usd(rules.most_budget, f" a {rules.period}")
    return f"a key of this team needs a hard budget of at most {most} for all models"


def _limit_fault(rules: KeyRules, virtual_key: VirtualKey, kind: LimitKind) -> str:
    most = getattr(rules, f"most_{kind.value}")
    if most is None:
        return ""
    within = models.Q(burst=None) | models.Q(burst__lte=most)
    if _whole(Limit.objects, virtual_key).filter(within, kind=kind, rate__lte=most).exists():
        return ""
    return f"a key of this team needs a limit of at most {kind.said(most)}"


def _expiry_fault(rules: KeyRules, virtual_key: VirtualKey) -> str:
    if rules.most_days is None:
        return ""
    # A day more than the clock says, so that a date that a person picks can be the last one allowed.
    latest = timezone.now() + timedelta(days=rules.most_days + 1)
    if virtual_key.expires_at is not None and virtual_key.expires_at <= latest:
        return ""
    days = "day" if rules.most_days == 1 else "days"
    return f"a key of this team has to expire within {_number(rules.most_days)} {days}"


def _models_fault(rules: KeyRules, virtual_key: VirtualKey) -> str:
    if not rules.allowed_models:
        return ""
    allowed = virtual_key.allowed_models
    others = [name for name in allowed if not any(patterns.includes(each, name) for each in rules.allowed_models)]
    if allowed and not others:
        return ""
    which = f", and not {', '.join(others)}" if others else ""
    return f"a key of this team may use only {', '.join(rules.allowed_models)}{which}"
