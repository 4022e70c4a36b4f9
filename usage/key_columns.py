"""Columns of the list of virtual keys about their use: what they spent this month, what is left, and their last call.

A page of the list asks for them in four queries, whatever the number of keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from keys import viewer
from keys.admin import VirtualKeyAdmin
from keys.models import Credential, VirtualKey
from keys.visibility import visible
from usage import amounts
from usage.budgets import Budget
from usage.cells import part, two_lines, what_is_left
from usage.credential_uses import CredentialUse
from usage.owner_days import OwnerDay
from usage.standing import with_standing


@dataclass(slots=True)
class Use:
    """A key's use. `budget`: its own budget of which the smallest part is left, as `with_standing` annotates it."""

    spent: Decimal = Decimal(0)
    budget: Any = None
    last: datetime | None = None


def look_up(request: HttpRequest, keys: Sequence[VirtualKey]) -> None:
    """Give each of these keys its `Use`, in four queries."""
    found = {key.pk: Use() for key in keys}
    # OwnerDay.owner of a key is its id times 4, plus 2.
    days = OwnerDay.objects.filter(owner__in=[pk * 4 + 2 for pk in found])
    this_month = days.filter(day__gte=timezone.now().astimezone(UTC).date().replace(day=1))
    for owner, spent in this_month.values_list("owner").annotate(Sum("cost")):
        found[owner // 4].spent = spent
    budgets = visible(request.user, Budget.objects.filter(virtual_key__in=found, active=True))
    standing: Any = with_standing(budgets)
    for budget in sorted(standing, key=lambda each: (each.left / each.allowed if each.allowed else 0, each.pk)):
        use = found[budget.virtual_key_id]
        use.budget = use.budget or budget
    owners = dict(Credential.objects.filter(virtual_key__in=found).values_list("pk", "virtual_key_id"))
    for credential, at in CredentialUse.objects.filter(pk__in=owners).values_list("credential", "used_at"):
        use = found[owners[credential]]
        use.last = at if use.last is None else max(use.last, at)
    for row in keys:
        vars(row)["use"] = found[row.pk]


def use_of(row: VirtualKey) -> Use:
    """What `look_up` found for a key of a list."""
    found: Use = vars(row)["use"]
    return found


@admin.display(description="spent this month")
def spent_this_month(row: VirtualKey) -> str:
    """What the key's calls have cost this month (UTC)."""
    return amounts.usd(use_of(row).spent)


@admin.display(description="left of its budget")
def left(row: VirtualKey) -> SafeString | str:
    """What is left of the budget that is used most, and the part of it."""
    budget = use_of(row).budget
    if budget is None:
        return "–"
    return two_lines(what_is_left(budget.left, budget.unit), part(budget.left, budget.allowed, budget.unit))


@admin.display(description="last used")
def last_used(row: VirtualKey) -> str:
    """The last admitted call with one of its secrets or tokens."""
    last = use_of(row).last
    return viewer.moment(last) if last else "never"


VirtualKeyAdmin.row_facts = (*VirtualKeyAdmin.row_facts, look_up)
VirtualKeyAdmin.list_display = (*VirtualKeyAdmin.list_display, spent_this_month, left, last_used)
