"""Budgets, their top-ups and overrides, and limits."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from rest_framework.serializers import CharField, ChoiceField, ListField

from administration.rest import filters
from administration.rest.errors import RestError
from administration.rest.members import Amount, Flag, Members, Moment, Text, Whole, number, texts
from administration.rest.resource import Added, Changed, Listed, Removed
from keys.errors import refused
from keys.models import Customer, ProviderKey, Team, VirtualKey
from usage import budget_terms
from usage.budget_forms import MOST_WINDOWS
from usage.budget_terms import Scope, Terms
from usage.budgets import MOST, Budget, Enforcement, Override, Period, TopUp, Unit
from usage.limits import Limit, LimitKind
from usage.owners import Owner
from usage.standing import with_limit_standing, with_standing

MOST_RATE = int(MOST)
OWNERS: dict[str, type[Customer | Team | VirtualKey]] = {
    "customer_id": Customer,
    "team_id": Team,
    "virtual_key_id": VirtualKey,
}
MODELS = "Names and patterns (claude-*). Empty: all models."


class BudgetTerms(Members):
    """What calls may cost in a window."""

    FIXED: ClassVar[tuple[str, ...]] = ("unit", "period", "rolling", "models")

    unit = ChoiceField(choices=Unit.values, required=False, default=Unit.USD.value)
    amount = Amount(required=False, help_text="0 for a prepaid budget, whose amount is the sum of its top-ups.")
    period = ChoiceField(
        choices=Period.values, required=False, default=Period.MONTH.value, help_text="`none`: prepaid, without windows."
    )
    rolling = Flag(required=False, default=False, help_text="Windows begin with the first use.")
    enforcement = ChoiceField(choices=Enforcement.values, required=False)
    thresholds = ListField(
        child=Whole(min_value=1, max_value=1000), required=False, max_length=20, help_text="Percentages that alert."
    )
    models = texts(required=False, source="model_patterns", help_text=MODELS)


class LimitTerms(Members):
    """How many calls or tokens may pass in a minute, or how many calls at once."""

    FIXED: ClassVar[tuple[str, ...]] = ("kind", "models")

    kind = ChoiceField(choices=LimitKind.values)
    rate = Whole(min_value=1, max_value=MOST_RATE)
    burst = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_RATE, help_text="Null: the default.")
    count_cached = Flag(required=False)
    models = texts(required=False, source="model_patterns", help_text=MODELS)


class OwnerMembers(Members):
    """Whose budget or limit it is: exactly one of the three."""

    customer_id = number(required=False, allow_null=True)
    team_id = number(required=False, allow_null=True)
    virtual_key_id = number(required=False, allow_null=True)
    provider_key_id = number(required=False, allow_null=True, help_text="Only a virtual key's calls to this one.")


class Standing(Members):
    """The current window: amounts in the budget's unit."""

    amount = Amount(source="allowed", help_text="The amount that counts now, with overrides.")
    spent = Amount()
    held = Amount()
    left = Amount(signed=True)
    resets_at = Moment(allow_null=True)
    exhausted_since = Moment(allow_null=True)


class BudgetMembers(OwnerMembers, BudgetTerms):
    """What calls of a customer, team or virtual key may cost in a window, and what they have cost."""

    FIXED: ClassVar = (*OWNERS, "provider_key_id", *BudgetTerms.FIXED)

    id = Whole(read_only=True)
    active = Flag(required=False)
    deleted_at = Moment(read_only=True, allow_null=True)
    created_at = Moment(read_only=True)
    standing = Standing(read_only=True, source="*")


class LimitStanding(Members):
    """What is left now."""

    remaining = Whole()
    at_once = Whole(source="bucket", allow_null=True)


class LimitMembers(OwnerMembers, LimitTerms):
    """How many calls or tokens of a customer, team or virtual key may pass in a minute, or how many calls at once."""

    FIXED: ClassVar = (*OWNERS, "provider_key_id", *LimitTerms.FIXED)

    id = Whole(read_only=True)
    active = Flag(required=False)
    deleted_at = Moment(read_only=True, allow_null=True)
    created_at = Moment(read_only=True)
    standing = LimitStanding(read_only=True, source="*")


def put_budget(
    owner: Owner, values: Mapping[str, Any], provider_key: ProviderKey | None = None, *, new_owner: bool = False
) -> Budget:
    """Create a budget.

    Args:
        new_owner: the same body adds the owner, so another such budget is of the body, too.

    Raises:
        RestError: 409, the owner has one with this unit, period and scope.
        Unusable: the terms don't fit together.
    """
    terms = Terms(
        values.get("amount", Decimal(0)),
        Unit(values["unit"]),
        Period(values["period"]),
        Enforcement(values["enforcement"]) if "enforcement" in values else None,
    )
    if terms.period != Period.NONE and "amount" not in values:
        raise ValidationError({"amount": "This member is required, except for a prepaid budget."})
    if terms.period == Period.NONE and terms.amount:
        raise ValidationError({"amount": "The amount of a prepaid budget is the sum of its top-ups: leave it out."})
    scope = Scope(values["rolling"], values.get("model_patterns", []), provider_key)
    which = {"unit": terms.unit, "period": terms.period, "rolling": scope.rolling}
    _refuse_second(Budget, owner, scope, which, new_owner)
    return budget_terms.put(owner, terms, scope, budget_terms.check_thresholds(values.get("thresholds", [])))


def put_limit(
    owner: Owner, values: Mapping[str, Any], provider_key: ProviderKey | None = None, *, new_owner: bool = False
) -> Limit:
    """Create a limit. `new_owner`: as for a budget.

    Raises:
        RestError: 409, the owner has one of this kind and scope.
        Unusable: the terms don't fit together.
    """
    scope = Scope(False, values.get("model_patterns", []), provider_key)
    pace = budget_terms.LimitTerms(
        LimitKind(values["kind"]), values["rate"], values.get("burst"), values.get("count_cached")
    )
    _refuse_second(Limit, owner, scope, {"kind": pace.kind}, new_owner)
    return budget_terms.put_limit(owner, pace, scope)


def _refuse_second(
    model: type[budget_terms.Row], owner: Owner, scope: Scope, which: dict[str, Any], new_owner: bool
) -> None:
    found = budget_terms.find(model, owner, scope, **which)
    if not found:
        return
    name = model._meta.verbose_name
    if new_owner:
        raise RestError(409, f"The body names two {name}s of one scope: give one of them.")
    raise RestError(409, f"This owner already has such a {name}, with the id {found[0].pk}: change that one.")


class Owned(Listed, Added, Changed, Removed):
    """Shared by budgets and limits. A removed one no longer applies to calls, and stays readable."""

    filters: ClassVar = {
        **{name: filters.by_id(name.removesuffix("_id")) for name in OWNERS},
        "active": filters.by_flag(lambda rows, active: rows.filter(active=active)),
    }
    volatile = ("standing",)

    def owner(self, values: dict[str, Any]) -> tuple[Owner, ProviderKey | None]:
        """The owner that a request names, and its provider key."""
        given = {name: values.pop(name) for name in OWNERS if values.get(name) is not None}
        if len(given) != 1:
            raise ValidationError("Give exactly one of customer_id, team_id and virtual_key_id.")
        [(name, pk)] = given.items()
        owner = self.chosen(OWNERS[name], pk, name)
        assert owner is not None
        if isinstance(owner, VirtualKey) and owner.is_closed:
            raise ValidationError({name: f"The virtual key {pk} can't have budgets and limits any more."})
        return owner, self.chosen(ProviderKey, values.pop("provider_key_id", None), "provider_key_id")

    def change(self, row: Any, values: dict[str, Any]) -> None:
        """Save these values."""
        budget_terms.change(row, values)

    def remove(self, row: Budget | Limit) -> None:
        """Stop applying it to calls."""
        self.require("change", row)
        row.delete_softly()


class Budgets(Owned):
    """What calls may cost in a window. A removed budget no longer applies to calls, and stays readable."""

    scope = "budgets"
    noun = "budgets"
    queryset = Budget.objects.all()
    serializer_class = BudgetMembers

    def get_queryset(self) -> QuerySet[Budget]:
        """The budgets, with their current windows."""
        return with_standing(super().get_queryset())

    def add(self, values: dict[str, Any]) -> Budget:
        """Save a new budget."""
        owner, provider_key = self.owner(values)
        active = values.pop("active", True)
        row = put_budget(owner, values, provider_key)
        self.require("add", row)
        return row if active else budget_terms.change(row, {"active": False})


class Limits(Owned):
    """How much may pass in a minute, or at once. A removed limit no longer applies to calls, and stays readable."""

    scope = "limits"
    noun = "limits"
    queryset = Limit.objects.all()
    serializer_class = LimitMembers

    def get_queryset(self) -> QuerySet[Limit]:
        """The limits, with what is left now."""
        return with_limit_standing(super().get_queryset())

    def add(self, values: dict[str, Any]) -> Limit:
        """Save a new limit."""
        owner, provider_key = self.owner(values)
        active = values.pop("active", True)
        row = put_limit(owner, values, provider_key)
        self.require("add", row)
        return row if active else budget_terms.change(row, {"active": False})


class TopUpMembers(Members):
    """An amount that was added to a prepaid budget; a negative one is a correction."""

    id = Whole(read_only=True)
    budget_id = number()
    amount = Amount(signed=True)
    reason = Text()
    author = CharField(read_only=True)
    created_at = Moment(read_only=True)


class OverrideMembers(Members):
    """An amount that replaces a budget's for a number of windows, or until a point in time."""

    id = Whole(read_only=True)
    budget_id = number()
    amount = Amount()
    windows = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_WINDOWS)
    until = Moment(required=False)
    starts_at = Moment(read_only=True)
    reason = Text()
    author = CharField(read_only=True)
    created_at = Moment(read_only=True)


class Recorded(Listed, Added):
    """Shared by top-ups and overrides: they are added, and never changed."""

    scope = "budgets"
    newest_first = True
    filters: ClassVar = {"budget_id": filters.by_id("budget")}

    def budget(self, values: dict[str, Any]) -> Budget:
        """The budget that a request names."""
        found = self.chosen(Budget, values["budget_id"], "budget_id")
        assert found is not None
        if found.deleted_at is not None:
            raise ValidationError({"budget_id": f"The budget {found.pk} is removed."})
        return found

    def author(self) -> str:
        """Who is recorded as the author."""
        return str(self.request.user.get_username())


class TopUps(Recorded):
    """Amounts added to prepaid budgets."""

    noun = "top-ups"
    queryset = TopUp.objects.all()
    serializer_class = TopUpMembers

    def add(self, values: dict[str, Any]) -> TopUp:
        """Add to a prepaid budget."""
        budget = self.budget(values)
        self.require("add", TopUp(budget=budget))
        with refused():
            return budget.top_up(values["amount"], reason=values["reason"], author=self.author())


class Overrides(Recorded):
    """Amounts that replace budgets' amounts for a time."""

    noun = "overrides"
    queryset = Override.objects.all()
    serializer_class = OverrideMembers

    def add(self, values: dict[str, Any]) -> Override:
        """Replace a budget's amount for a time."""
        budget = self.budget(values)
        self.require("add", Override(budget=budget))
        with refused():
            return budget.override(
                values["amount"],
                windows=values.get("windows"),
                until=values.get("until"),
                reason=values["reason"],
                author=self.author(),
            )
