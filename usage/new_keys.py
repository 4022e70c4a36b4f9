"""Issues a virtual key with its budgets and limits, by its team's rules. Pages, REST and commands issue keys here.

`manage.py apply` is the exception: its file says all that a key has (administration/deployment/applying.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.db import transaction

from keys import issuing
from keys.errors import Unusable
from keys.issuing import Routes
from keys.models import ProviderKey, VirtualKey
from usage import key_rules
from usage.budgets import Budget
from usage.limits import Limit

# Keys that a page or a request issues at once.
MOST_AT_ONCE = 200

# Give a saved key a budget or a limit.
Budgets = Sequence[Callable[[VirtualKey], Budget]]
Limits = Sequence[Callable[[VirtualKey], Limit]]


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. `plain`, its secret, is known only now."""

    virtual_key: VirtualKey
    plain: str = field(repr=False)
    budgets: list[Budget]
    limits: list[Limit]


@transaction.atomic
def issue(
    virtual_key: VirtualKey,
    routes: Routes,
    *,
    budgets: Budgets | None = None,
    limits: Limits = (),
    hold: Callable[[VirtualKey], None] | None = None,
) -> Issued:
    """Save a new virtual key, create its secret, and put its budgets and limits in force.

    Args:
        virtual_key: not saved yet. Its team's rules fill in models and expiry if it has none.
        budgets: None for what the team's rules say; an empty list for none.
        limits: the team's rules add those of other kinds.
        hold: refuses the key, as it is saved, if it passes a ceiling of the person's (`keys.ceilings`).

    Raises:
        Unusable: `issuing.issue` or `hold` refuses the key, or two budgets or limits have the same scope.
    """
    rules, said = key_rules.of_team(virtual_key.team), list(virtual_key.allowed_models)
    if rules is not None:
        key_rules.fill_terms(rules, virtual_key)
        if not said:
            _check_reach_of_rules(rules, [provider_key for provider_key, _ in routes])
    plain = issuing.issue(virtual_key, routes)
    given = [put(virtual_key) for put in budgets or ()]
    if len({budget.pk for budget in given}) < len(given):
        raise Unusable("two budgets have the same period: name each period once", {key_rules.BUDGET: []})
    paces = [put(virtual_key) for put in limits]
    if rules is not None:
        given += key_rules.fill_budget(rules, virtual_key) if budgets is None else []
        paces += key_rules.fill_limits(rules, virtual_key, paces)
    if hold is not None:
        hold(virtual_key)
    return Issued(virtual_key, plain, given, paces)


def _check_reach_of_rules(rules: key_rules.KeyRules, provider_keys: list[ProviderKey]) -> None:
    """Refuse models that the team's rules gave the key and that its provider keys don't serve.

    Raises:
        Unusable: it names the rules, because the person typed no models.
    """
    try:
        issuing.check_reach(rules.allowed_models, provider_keys)
    except Unusable as error:
        models = ", ".join(rules.allowed_models)
        raise Unusable(
            f"without models of its own, it gets those of its team's rules ({models}): {error}; choose models, or "
            "change the rules",
            {key_rules.MODELS: []},
        ) from None
