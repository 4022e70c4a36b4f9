"""Rules for the names that people give to keys, customers, teams and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from psycopg.errors import UniqueViolation

from keys.errors import Unusable

LENGTH = 200
# The names of the gateway's own, hidden keys, and what each is for.
PASSTHROUGH, TESTS = "(passed through)", "(test calls)"
RESERVED = {PASSTHROUGH: "calls with a provider's own key", TESTS: "test calls of provider keys"}


def check(name: str, what: str) -> str:
    """The name without surrounding spaces, if it suits a table, a log line and a ledger row.

    Args:
        what: whose name it is, for the message.

    Raises:
        Unusable: the name is empty, too long, reserved, or contains characters that don't print.
    """
    name = name.strip()
    if not name:
        raise Unusable(f"the name of {what} is empty: give one")
    if len(name) > LENGTH:
        raise Unusable(f"the name of {what} is longer than {LENGTH} characters: shorten it")
    if not name.isprintable():
        raise Unusable(f"the name of {what} contains characters that don't print: remove them")
    if name in RESERVED:
        raise Unusable(f"the gateway reserves the name “{name}” for {RESERVED[name]}: choose another")
    return name


@contextmanager
def unique(taken: str) -> Iterator[None]:
    """Refuse a save within this block that violates a unique constraint.

    A check before the save can't see a row that another request saves at the same moment.

    Args:
        taken: the message of the refusal.

    Raises:
        Unusable: the name is taken.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if not is_taken(error):
            raise
        raise Unusable(taken) from None


def is_taken(error: IntegrityError) -> bool:
    """Whether the error says that such a row already exists."""
    return isinstance(error.__cause__, UniqueViolation)
