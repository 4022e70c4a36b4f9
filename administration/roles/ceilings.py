"""The ceilings of a team's keys, which bind people who may not change the team itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Model

from administration.roles.enforcement import may
from keys.models import Team, VirtualKey
from usage import key_rules
from usage.budgets import Budget, Limit, Override


def bound(user: Any, team: Team | None) -> bool:
    """Whether the ceilings of a team bind a person."""
    return team is not None and not may(user, "keys.change_team", team)


def hold(user: Any, row: Model) -> None:
    """Refuse a virtual key, or one of its budgets, limits or overrides, that passes a ceiling of this person's.

    Raises:
        Unusable: the message says what the key needs.
    """
    virtual_key, about = _subject(row)
    if virtual_key is None or virtual_key.revoked_at or not bound(user, virtual_key.team):
        return
    key_rules.check(key_rules.of_team(virtual_key.team), virtual_key, about)


def _subject(row: Model) -> tuple[VirtualKey | None, Iterable[str]]:
    """The key that a row is about, and what of it the row may have changed."""
    match row:
        case VirtualKey():
            return row, key_rules.OF_KEY
        case Budget():
            return row.virtual_key, [key_rules.BUDGET]
        case Override():
            return row.budget.virtual_key, [key_rules.BUDGET]
        case Limit():
            return row.virtual_key, [row.kind]
    return None, ()
