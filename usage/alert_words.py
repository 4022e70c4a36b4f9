"""The contents of alerts: JSON for webhooks, sentences for e-mail."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from keys.models import Customer
from usage import moments
from usage.alerts import Alert
from usage.budgets import Budget, Period, Unit, Window


def payer(alert: Alert) -> Customer | None:
    """The customer whose budget or virtual key the alert is about; None for what customers share: a provider key, or
    the roll-ups."""
    if alert.provider_key is not None or alert.about == "miscounted":
        return None
    budget = alert.budget
    owner = alert.virtual_key if budget is None else budget.customer or budget.team or budget.virtual_key
    assert owner is not None
    return owner if isinstance(owner, Customer) else owner.customer


def described(alert: Alert) -> dict[str, Any]:
    """An alert as webhooks receive it. Amounts are exact decimal strings: in the budget's unit, for overruns in USD."""
    budget = alert.budget
    if alert.provider_key is not None and alert.unsent_requests:
        return {
            "type": "provider_key.unsent_requests",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "provider_key": alert.provider_key.name,
            "provider": alert.provider_key.provider,
            "day": f"{alert.start.astimezone(UTC):%Y-%m-%d}",
            "provider_requests": int(alert.spent),
            "our_requests": int(alert.amount),
            "unsent_requests": int(alert.needed or 0),
        }
    if alert.provider_key is not None:
        return {
            "type": "provider_key.doubtful_usage" if alert.doubtful else "provider_key.refused",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "provider_key": alert.provider_key.name,
            "provider": alert.provider_key.provider,
            **({} if alert.doubtful else {"http_status": alert.http_status}),
        }
    if alert.expires_at is not None:
        return {
            "type": "virtual_key.expiring",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "virtual_key": str(alert.virtual_key),
            "customer": str(payer(alert)),
            "expires_at": moments.show(alert.expires_at),
            "days": alert.threshold,
        }
    if alert.about == "miscounted":
        return {
            "type": "rollups.differ",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "hour": moments.show(alert.start),
            "ledger_cost": plain(alert.spent),
            "reported_cost": plain(alert.amount),
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
    """A budget's alert as webhooks receive it: the budget refuses calls, or has passed a threshold."""
    kind = "customer" if budget.customer else "team" if budget.team else "virtual_key"
    window = Window.objects.filter(budget=budget, start=alert.start).first()
    # A rolling budget can refuse a call while it has no window: its window begins with the first admitted call.
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
    """What the refused call needed, and what the budget had left and held at that moment."""
    assert alert.needed is not None
    assert alert.held is not None
    return {"needed": plain(alert.needed), "left": plain(alert.left), "held": plain(alert.held)}


def in_words(alert: Alert) -> tuple[str, list[str]]:
    """An alert as e-mail: the subject, and the lines of the body."""
    said, budget = described(alert), alert.budget
    if alert.unsent_requests:
        return f"Provider key {said['provider_key']} is used elsewhere", [
            f"In some hours of {said['day']} (UTC), the provider counts {said['provider_requests']} requests with this"
            f" key, of which this gateway sent {said['our_requests']}. At least {said['unsent_requests']} came from"
            " elsewhere: another program has the key, or it was stolen. If no other program should have it, replace the"
            " key at the provider and here.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Day: {said['day']} (UTC). No further message about this key is sent for this day.",
            "Which models and hours: Billing, Reconciliation.",
        ]
    if alert.doubtful:
        return f"The provider reports doubtful usage for provider key {said['provider_key']}", [
            "The provider reported usage that can't be right: more tokens than the model accepts, more output than the"
            " request allows, or a value that isn't a count. Such calls are charged an estimate; their ledger rows have"
            " the flag doubtful_usage.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Since: {said['at']}. No further message about this key is sent within the hour.",
        ]
    if alert.provider_key is not None:
        return f"The provider refuses provider key {said['provider_key']}", [
            f"It answered {said['http_status']}: the key is no longer valid, lacks a permission, or its account has no"
            " credit left. Until it recovers, calls go to other provider keys; a call that has no other provider key is"
            " refused. One call every few minutes probes whether the key has recovered. If you enter a new secret or"
            " end the cool-down in the admin, the next call probes it at once.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Since: {said['at']}. No further message about this key is sent within the hour.",
        ]
    if alert.expires_at is not None:
        key = alert.virtual_key
        name = key.full_name if key else said["virtual_key"]
        return f"Virtual key {name} expires within {days(alert.threshold)}", [
            "When it expires, its calls are refused. To keep it, set a later expiry. To replace it, issue another key.",
            "",
            f"Virtual key: {name}",
            *([f"Owner: {key.owner}"] if key and key.owner else []),
            f"Expires: {alert.expires_at.astimezone(UTC):%-d %b %Y %H:%M} UTC",
        ]
    if alert.about == "miscounted":
        hour = alert.start.astimezone(UTC)
        return f"Reports differ from the ledger on {hour:%-d %b %Y}", [
            f"In the hour from {hour:%H:%M} UTC, reports count calls of {said['reported_cost']} USD; the ledger has"
            f" calls of {said['ledger_cost']} USD (the tokens or the owners may differ where these sums are equal)."
            " Budgets, limits and the ledger itself are not concerned.",
            "",
            f"To sum the reports again: manage.py rebuild_rollups --since {hour:%Y-%m-%d}",
            "It says which days it has mended. If days before that one may differ too, name an earlier day.",
        ]
    if budget is None:
        name = alert.virtual_key.full_name if alert.virtual_key else said["virtual_key"]
        return f"Calls of virtual key {name} cost more than was held for them", [
            f"The calls cost {said['cost']} USD; {said['held']} USD were held for them. They are charged in full, which"
            " may take a budget over its amount.",
            "",
            f"Virtual key: {name}",
            f"Customer: {said['customer']}",
            f"Day: {said['day']} (UTC). This key sends no further message on this day.",
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
        done = "is exhausted: calls are refused" if alert.used_up else "refused a call that needs more than is left"
        return f"{budget} {done}", [
            f"A call needed up to {said['needed']}{unit}; {said['left']}{unit} of {said['amount']}{unit} are left:"
            f" {said['spent']}{unit} are spent, {said['held']}{unit} are held for calls in progress.",
            f"Calls that need more than is left are refused{f' until {change}' if change else ''}. No further message"
            " is sent until then.",
            *particulars,
        ]
    return f"{alert.threshold} % of {budget}", [
        f"{said['spent']}{unit} of {said['amount']}{unit} are spent: the threshold of {alert.threshold} % is passed.",
        *particulars,
    ]


def days(number: int) -> str:
    """A number of days in words."""
    return "a day" if number == 1 else f"{number} days"


def plain(amount: Any) -> str:
    """The amount as plain digits, without exponent or trailing zeros."""
    return f"{amount.normalize():f}"
