"""Budgets, limits and rules for keys on the pages of their owners: customers, teams and virtual keys."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from keys.admin import CustomerAdmin, TeamAdmin, VirtualKeyAdmin
from keys.cards import Cards
from usage.budget_columns import LimitStanding, Standing
from usage.budget_forms import BudgetForm, KeyRulesForm, LimitForm
from usage.budgets import OWNERS, Budget
from usage.key_rules import KeyRules
from usage.limits import Limit


class OwnedInline(Cards):
    """Budgets or limits on the page of their owner. They are added here and changed on their own page."""

    show_change_link = True
    can_delete = False
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    autocomplete_fields = ("provider_key",)

    class Media:
        css: ClassVar = {"all": ["keys/lists.css"]}

    # Only a virtual key's budgets and limits can be restricted to one provider key.
    NARROW = "provider_key"
    SHOWN: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(Q(active=True))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        typed = [name for name in self.form.Meta.fields if name not in (*OWNERS, "active")]  # type: ignore[attr-defined]
        narrow = self.parent_model._meta.model_name == "virtualkey"
        return [name for name in typed if narrow or name != self.NARROW] + list(self.SHOWN)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.SHOWN

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.autocomplete_fields if self.parent_model._meta.model_name == "virtualkey" else ()


class BudgetInline(Standing, OwnedInline):
    """The owner's budgets, and what is left of each."""

    model = Budget
    form = BudgetForm
    title_to_add = "Add a budget"
    # The budget's own page shows when it resets.
    SHOWN = ("used_now", "left_now")


class LimitInline(LimitStanding, OwnedInline):
    """The owner's limits."""

    model = Limit
    form = LimitForm
    title_to_add = "Add a limit"
    SHOWN = ("standing",)
    # Unlike the list of limits, an inline has no column that names the burst.
    USED = "at once used"


class KeyRulesInline(Cards):
    """What a team's new keys get, and what its admins can't pass."""

    model = KeyRules
    form = KeyRulesForm
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    # A team has one row of rules, so Django heads it by the singular.
    verbose_name = verbose_name_plural = "rules for its keys"
    title_to_add = "Set rules for its keys"


TeamAdmin.inlines = (*TeamAdmin.inlines, KeyRulesInline)
for page in (CustomerAdmin, TeamAdmin, VirtualKeyAdmin):
    page.inlines = (*page.inlines, BudgetInline, LimitInline)
