"""The ceilings of a team's keys, which bind people who may not change the team itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Model

from administration.roles.enforcement import may
from keys.errors import Unusable
from keys.models import Team, VirtualKey
from usage import key_rules
from usage.budgets import Budget, Override
from usage.key_rules import KeyRules
from usage.limits import Limit


def bound(user: Any, team: Team) -> bool:
    """Whether a team has rules for its keys that bind a person."""
    return key_rules.of_team(team) is not None and not may(user, "keys.change_team", team)


def hold(user: Any, row: Model) -> None:
    """Refuse a virtual key, or one of its budgets, limits or overrides, that passes a ceiling of this person's.

    Raises:
        Unusable: the message says what the key needs.
    """
    subject, about = _subject(row)
    if subject is None:
        return
    virtual_key = _locked(subject)
    if virtual_key.revoked_at:
        return
    if virtual_key.team is None:
        _hold_without_team(user, virtual_key)
    elif bound(user, virtual_key.team):
        key_rules.check(key_rules.of_team(virtual_key.team), virtual_key, about)


def hold_move(user: Any, virtual_key: VirtualKey) -> None:
    """Refuse to move a key out of a team whose rules bind this person.

    Args:
        virtual_key: with its new team, which isn't saved yet.

    Raises:
        Unusable: the key has to stay in its team.
    """
    team = _locked(virtual_key).team
    if team is not None and team.pk != virtual_key.team_id and bound(user, team):
        fault = f"the team “{team}” has rules for its keys: only who may change the team moves a key out of it"
        raise Unusable(fault, {"team": [fault]})


def _locked(virtual_key: VirtualKey) -> VirtualKey:
    """The key as it is stored, locked until the transaction ends.

    Of two changes that together pass a ceiling, each would otherwise see how things stand without the other one.
    """
    rows = VirtualKey.objects.select_for_update(no_key=True, of=("self",)).select_related("customer", "team__customer")
    return rows.get(pk=virtual_key.pk)


def _hold_without_team(user: Any, virtual_key: VirtualKey) -> None:
    """Refuse a key without a team, which no rules hold, to a person whom the rules of one of the customer's teams bind.

    Raises:
        Unusable: the key needs a team.
    """
    rules = KeyRules.objects.filter(team__customer=virtual_key.customer_id).select_related("team__customer")
    if any(bound(user, each.team) for each in rules):
        fault = (
            f"{virtual_key.customer} has teams with rules for their keys, so only who may change these teams manages "
            "its keys without a team: choose a team"
        )
        raise Unusable(fault, {"team": [fault]})


def _subject(row: Model) -> tuple[VirtualKey | None, Iterable[str]]:
    """The key that a row is about, and what of it the row may have changed."""
    match row:
        case VirtualKey():
            # Its team may have changed, and with it all that the key needs.
            return row, key_rules.ABOUT
        case Budget():
            return row.virtual_key, [key_rules.BUDGET]
        case Override():
            return row.budget.virtual_key, [key_rules.BUDGET]
        case Limit():
            return row.virtual_key, [row.kind]
    return None, ()
