"""What alerts say: to programs (webhooks), and to people (e-mail)."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from keys.models import Customer
from usage import moments
from usage.alerts import Alert
from usage.budgets import Budget, Period, Unit, Window


def payer(alert: Alert) -> Customer | None:
    """The customer whose budget or virtual key it is about, in the end; provider keys are everybody's."""
    if alert.provider_key is not None:
        return None
    budget = alert.budget
    owner = alert.virtual_key if budget is None else budget.customer or budget.team or budget.virtual_key
    assert owner is not None
    return owner if isinstance(owner, Customer) else owner.customer


def described(alert: Alert) -> dict[str, Any]:
    """An alert as webhooks get it; amounts are strings, exact, in the budget's unit, of overruns in USD."""
    budget = alert.budget
    if alert.provider_key is not None:
        return {
            "type": "provider_key.doubtful_usage" if alert.doubtful else "provider_key.refused",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "provider_key": alert.provider_key.name,
            "provider": alert.provider_key.provider,
            **({} if alert.doubtful else {"http_status": alert.http_status}),
        }
    if budget is None:
        return {
            "type": "virtual_key.overrun",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "cost": plain(alert.spent),
            "held": plain(alert.amount),
            "virtual_key": str(alert.virtual_key),
            "customer": str(payer(alert)),
            "day": f"{alert.start.astimezone(UTC):%Y-%m-%d}",
        }
    return about_budget(alert, budget)


def about_budget(alert: Alert, budget: Budget) -> dict[str, Any]:
    """A budget's alert as webhooks get it: it refuses calls, or has passed a threshold."""
    kind = "customer" if budget.customer else "team" if budget.team else "virtual_key"
    window = Window.objects.filter(budget=budget, start=alert.start).first()
    # A rolling budget also refuses between its windows.
    timeless = budget.period == Period.NONE or (alert.exhausted and window is None)
    return {
        "type": "budget.exhausted" if alert.exhausted else "budget.threshold",
        "id": f"alert_{alert.pk}",
        "at": moments.show(alert.at),
        **(what_is_left(alert) if alert.exhausted else {"threshold": alert.threshold}),
        "spent": plain(alert.spent),
        "amount": plain(alert.amount),
        "budget": {
            "id": budget.pk,
            "owner": {"type": kind, "name": getattr(budget, kind).name},
            "customer": str(payer(alert)),
            "models": budget.model_patterns,
            "unit": budget.unit,
            "period": budget.period,
            "enforcement": budget.enforcement,
        },
        "window": {
            "start": None if timeless else moments.show(alert.start),
            "until": moments.show(window.until) if window and window.until else None,
        },
    }


def what_is_left(alert: Alert) -> dict[str, str]:
    """What a call needed of an exhausted budget, and found."""
    assert alert.needed is not None
    assert alert.held is not None
    left = alert.amount - alert.spent - alert.held
    return {"needed": plain(alert.needed), "left": plain(left), "held": plain(alert.held)}


def in_words(alert: Alert) -> tuple[str, list[str]]:
    """An alert as people get it: the subject, and lines."""
    said, budget = described(alert), alert.budget
    if alert.doubtful:
        return f"The provider reports doubtful usage for provider key {said['provider_key']}", [
            "What it says that a call used can't be true: more tokens than the model takes, more output than was asked"
            " for, or something that is no count. Such calls are charged an estimate; their ledger rows have the flag"
            " doubtful_usage.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Since: {said['at']}; there is no other message of it in this hour.",
        ]
    if alert.provider_key is not None:
        return f"The provider refuses provider key {said['provider_key']}", [
            f"It answered {said['http_status']}: the key isn't good any more, may not do what it is asked, or its"
            " account is spent. Calls go to other provider keys meanwhile, or are refused where there is none. One call"
            " every few minutes tries whether it is well again. After a new secret, or when its cool-down is ended in"
            " the admin, the next one does.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Since: {said['at']}; there is no other message of it in this hour.",
        ]
    if budget is None:
        name = alert.virtual_key.full_name if alert.virtual_key else said["virtual_key"]
        return f"Calls of virtual key {name} cost more than was held for them", [
            f"They cost {said['cost']} USD, {said['held']} USD were held. They are charged in full, so that budgets may"
            " be passed.",
            "",
            f"Virtual key: {name}",
            f"Customer: {said['customer']}",
            f"Day: {said['day']} (UTC); there is no other message of this key's on this day.",
        ]
    unit = " tokens" if budget.unit == Unit.TOKENS else " USD"
    start, until = said["window"].values()
    particulars = [
        "",
        f"Budget: {budget}",
        f"Customer: {said['budget']['customer']}",
        f"Models: {', '.join(budget.model_patterns) or 'all'}",
        *([f"Window: from {start} until {until}"] if start else []),
    ]
    if alert.exhausted:
        change = "it is topped up" if budget.period == Period.NONE else until
        return f"{budget} is exhausted: calls are refused", [
            f"A call needed up to {said['needed']}{unit}; {said['left']}{unit} of {said['amount']}{unit} are left:"
            f" {said['spent']}{unit} are spent, {said['held']}{unit} are held for calls under way.",
            f"Calls that need more than is left are refused{f' until {change}' if change else ''}. There is no other"
            " message of this until then.",
            *particulars,
        ]
    return f"{alert.threshold} % of {budget}", [
        f"{said['spent']}{unit} of {said['amount']}{unit} are spent: {alert.threshold} % is passed.",
        *particulars,
    ]


def plain(amount: Any) -> str:
    """A decimal number without an exponent or zeros at its end."""
    return f"{amount.normalize():f}"
