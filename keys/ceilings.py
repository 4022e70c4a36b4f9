"""Keeps people within the ceilings that bind them, after they have changed a row. An authentication backend decides.

It runs in the transaction of the change, after it: what counts is how things stand then, however they came about.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from django.contrib.auth import get_backends
from django.db.models import Model


@runtime_checkable
class Holds(Protocol):
    """A backend that knows the ceilings."""

    def hold(self, user_obj: Any, row: Model) -> None:
        """Refuse a row that passes a ceiling of the person's."""


def hold(user: Any, row: Model) -> None:
    """Refuse a row, as it is saved, that passes a ceiling of this person's.

    Raises:
        Unusable: the caller has to take the change back.
    """
    for backend in get_backends():
        if isinstance(backend, Holds):
            backend.hold(user, row)
