"""Names of people's making: of keys, customers, teams, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from psycopg.errors import UniqueViolation

from keys.errors import Unusable

LENGTH = 200
PASSTHROUGH = "(passed through)"


def check(name: str, what: str) -> str:
    """The name without spaces around it, fit for a table, a log line and a ledger row.

    Raises:
        Unusable: empty, too long, reserved, or with characters that don't print.
    """
    name = name.strip()
    if not name:
        raise Unusable(f"the name of {what} is empty")
    if len(name) > LENGTH:
        raise Unusable(f"the name of {what} is longer than {LENGTH} characters")
    if not name.isprintable():
        raise Unusable(f"the name of {what} has characters that don't print")
    if name == PASSTHROUGH:
        raise Unusable(f"“{name}” is the gateway's own name for calls with a provider's key")
    return name


@contextmanager
def unique(taken: str) -> Iterator[None]:
    """Within, something is saved whose name nothing else may have, after that was checked: of two who do that at the
    same time, the second is refused.

    Raises:
        Unusable: with this message.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if not is_taken(error):
            raise
        raise Unusable(taken) from None


def is_taken(error: IntegrityError) -> bool:
    """Whether it says that there is another such row already."""
    return isinstance(error.__cause__, UniqueViolation)
