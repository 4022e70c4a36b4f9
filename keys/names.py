"""Names of people's making: of keys, customers, teams, tokens."""

from __future__ import annotations

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
