"""The scopes of tokens: `read` or `write` for each resource, as in `virtual_keys:write`. Who may write may read."""

from __future__ import annotations

from collections.abc import Iterable

from keys.errors import Unusable

RESOURCES = {
    "customers": "customers",
    "teams": "teams",
    "virtual_keys": "virtual keys",
    "budgets": "budgets, top-ups and overrides",
    "limits": "limits",
    "provider_keys": "provider keys",
    "aliases": "model aliases",
    "prices": "prices and exchange rates",
    "reconciliation": "the reconciliation",
    "alerts": "alerts and alert targets",
    "statements": "statements",
    "calls": "calls",
    "refusals": "refused calls",
    "usage": "usage reports",
    "saved_reports": "saved reports",
    "audit": "the audit log",
}
ONLY_READ = ("calls", "refusals", "usage", "audit")
READ, WRITE = "read", "write"
# Every resource, also those that later versions add.
ALL = "all"

SCOPES = [
    *(f"{ALL}:{access}" for access in (READ, WRITE)),
    *(f"{name}:{access}" for name in RESOURCES for access in (READ, WRITE) if access == READ or name not in ONLY_READ),
]


def check(scopes: Iterable[str]) -> list[str]:
    """The scopes in their usual order, without duplicates.

    Raises:
        Unusable: one doesn't exist, or no scope is given.
    """
    given = set(scopes)
    if unknown := sorted(given - set(SCOPES)):
        raise Unusable(f"there is no scope “{unknown[0]}”: choose from {', '.join(SCOPES)}")
    if not given:
        raise Unusable("a token needs at least one scope, such as all:read or virtual_keys:write")
    return [scope for scope in SCOPES if scope in given]


def allow(scopes: Iterable[str], resource: str, *, write: bool) -> bool:
    """Whether these scopes allow to read a resource, or to write it."""
    enough = {f"{name}:{WRITE}" for name in (resource, ALL)}
    if not write:
        enough |= {f"{name}:{READ}" for name in (resource, ALL)}
    return not enough.isdisjoint(scopes)


def in_words(scope: str) -> str:
    """A scope for people: `write virtual keys`."""
    name, _, access = scope.partition(":")
    return f"{access} {'everything' if name == ALL else RESOURCES.get(name, name)}"
