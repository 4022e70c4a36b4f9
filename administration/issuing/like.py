"""Fills the form of a new key from an existing one: *Issue like this one*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from administration.issuing.terms import WITHOUT, TermsForm, amount_text
from keys.models import VirtualKey
from usage.budgets import Budget, Enforcement, Period, Unit
from usage.limits import Limit


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the form begins with, and what it can't say, in sentences."""

    initial: dict[str, Any]
    left_out: list[str]


def likeness(virtual_key: VirtualKey, form: TermsForm) -> Likeness:
    """The terms of a key for a new one. Name and secret are the new key's own.

    Args:
        form: an empty form of the person, which says which models and provider keys it offers.
    """
    offered = {model.name for model in form.offered}
    routes = dict(virtual_key.routes.values_list("provider_key_id", "weight"))
    later = virtual_key.expires_at if virtual_key.expires_at and virtual_key.expires_at > timezone.now() else None
    initial: dict[str, Any] = {
        "team": virtual_key.team_id,
        "customer": None if virtual_key.team_id else virtual_key.customer_id,
        "owner": virtual_key.owner,
        "provider_keys": [key.pk for key in form.keys if key.pk in routes],
        **{f"weight_{key}": weight for key, weight in routes.items()},
        "picked": [name for name in virtual_key.allowed_models if name in offered],
        "allowed_models": ", ".join(name for name in virtual_key.allowed_models if name not in offered),
        "denied_models": ", ".join(virtual_key.denied_models),
        "fallback_models": ", ".join(virtual_key.fallback_models),
        "max_tokens": virtual_key.max_tokens,
        "default_max_tokens": virtual_key.default_max_tokens,
        "adaptive_weights": virtual_key.adaptive_weights,
        "expires_at": later,
        "labels": virtual_key.labels,
    }
    left_out = [
        f"Provider key {route.provider_key} is switched off: it isn't offered."
        for route in virtual_key.routes.select_related("provider_key").filter(provider_key__active=False)
    ]
    budgets, narrow = _whole(Budget.objects.filter(virtual_key=virtual_key, active=True))
    initial |= _budgets(budgets)
    limits, narrow_limits = _whole(Limit.objects.filter(virtual_key=virtual_key, active=True))
    initial |= {limit.kind: limit.rate for limit in limits}
    left_out += [f"It is not copied: {row}{_particulars(row)}." for row in (*narrow, *narrow_limits)]
    left_out += [f"Not copied of {row}: {more}." for row in (*budgets, *limits) if (more := _more(row))]
    return Likeness(initial, left_out)


def _whole(rows: Any) -> tuple[list[Any], list[Any]]:
    """The rows that the form can say, and the others."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for row in rows.select_related("provider_key", "virtual_key__customer", "virtual_key__team").order_by("pk"):
        narrow = row.model_patterns or row.provider_key or getattr(row, "rolling", False)
        found[bool(narrow)].append(row)
    return found


def _budgets(budgets: list[Budget]) -> dict[str, Any]:
    """The first budget in USD for the main fields, the others as lines."""
    first = next((each for each in budgets if each.unit == Unit.USD and each.period != Period.NONE), None)
    lines = "\n".join(_line(each) for each in budgets if each is not first)
    if first is None:
        return {"period": WITHOUT, "more_budgets": lines}
    return {
        "budget": amount_text(first.amount),
        "period": first.period,
        "enforcement": first.enforcement,
        "more_budgets": lines,
    }


def _line(budget: Budget) -> str:
    """A budget as `budget_terms.parse` reads it."""
    amount = "0" if budget.period == Period.NONE else amount_text(budget.amount)
    unit = "tokens" if budget.unit == Unit.TOKENS else ""
    period = "prepaid" if budget.period == Period.NONE else budget.period
    kind = "" if budget.enforcement == Enforcement.HARD else f"/{budget.enforcement}"
    return f"{amount}{unit}/{period}{kind}"


def _more(row: Budget | Limit) -> str:
    """What the form can't say of a budget or limit that it takes over, in words; empty: nothing."""
    if isinstance(row, Budget):
        return f"its alerts at {', '.join(map(str, row.thresholds))} %" if row.thresholds else ""
    said = [
        f"its burst of {row.burst:,}" if row.burst else "",
        "that it counts cached tokens" if row.count_cached else "",
    ]
    return " and ".join(filter(None, said))


def _particulars(row: Any) -> str:
    return row.particulars() if isinstance(row, Budget) else ""
