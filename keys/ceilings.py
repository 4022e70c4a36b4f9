"""Keeps people within the ceilings that bind them, after they have changed a row. An authentication backend decides.

It runs in the transaction of the change, after it: what counts is how things stand then, however they came about.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from django.contrib.auth import get_backends
from django.db.models import Model

from keys.models import VirtualKey


@runtime_checkable
class Holds(Protocol):
    """A backend that knows the ceilings."""

    def hold(self, user_obj: Any, row: Model) -> None:
        """Refuse a row that passes a ceiling of the person's."""

    def hold_move(self, user_obj: Any, virtual_key: VirtualKey) -> None:
        """Refuse a move out of a team whose rules bind the person."""


def hold(user: Any, row: Model) -> None:
    """Refuse a row, as it is saved, that passes a ceiling of this person's.

    Raises:
        Unusable: the caller has to take the change back.
    """
    for backend in get_backends():
        if isinstance(backend, Holds):
            backend.hold(user, row)


def hold_move(user: Any, virtual_key: VirtualKey) -> None:
    """Refuse to move a key, whose new team isn't saved yet, out of a team whose rules bind this person.

    Raises:
        Unusable: nothing may be saved.
    """
    for backend in get_backends():
        if isinstance(backend, Holds):
            backend.hold_move(user, virtual_key)
