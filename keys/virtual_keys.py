"""Finds the virtual key that a person names: by its name (after its owner's if needed), number or last characters.

A name is unique among the keys of one team (or of one customer without a team) that are not revoked. Case matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Concat

from keys.errors import Unusable
from keys.models import Credential, CredentialKind, VirtualKey

# For the `--help` of commands, and for messages.
SAID = "its name, CUSTOMER/TEAM/NAME, id:NUMBER or its last characters"
HOW = "name it by CUSTOMER/TEAM/NAME, id:NUMBER or its last characters"
ID = re.compile(r"(?:id:)?([0-9]{1,18})")
END = re.compile(r"(?:…|\.\.\.)?([0-9A-Za-z]{4})")
# The most keys that the message about an ambiguous name lists.
LISTED = 8


def find(text: str) -> VirtualKey:
    """Find a virtual key by `ci`, `Acme/ci`, `Acme/Platform/ci`, `id:17` or `17`, `…3k9f` or `3k9f`.

    If several keys fit and one of them is not revoked, that one is found.

    Raises:
        Unusable: no key fits, or several do; the message lists them.
    """
    text = text.strip()
    for fitting in _fitting(text):
        rows = list(with_ends(fitting)[: LISTED + 1])
        rows = [row for row in rows if row.revoked_at is None] or rows
        if len(rows) == 1:
            return rows[0]
        if rows:
            more = ", and more" if len(rows) > LISTED else ""
            which = ", ".join(known_by(row) for row in rows[:LISTED])
            raise Unusable(f"“{text}” may mean several virtual keys: {which}{more}; {HOW}")
    raise Unusable(f"there is no virtual key “{text}”: {HOW}")


def _fitting(text: str) -> Iterator[QuerySet[VirtualKey]]:
    """The keys that a text may mean, the likeliest first. A name may be a number, or contain slashes itself."""
    # Keys that are not revoked come first.
    rows = VirtualKey.objects.order_by("-revoked_at", "customer__name", "team__name", "pk")
    yield rows.filter(name=text)
    if "/" in text:
        yield rows.annotate(address=_address("/"), spaced=_address(" / ")).filter(Q(address=text) | Q(spaced=text))
    if number := ID.fullmatch(text):
        yield rows.filter(pk=int(number[1]))
    if end := END.fullmatch(text):
        ends = Credential.objects.filter(kind=CredentialKind.VIRTUAL_KEY, last=end[1])
        yield rows.filter(pk__in=ends.values("virtual_key"))


def _address(between: str) -> Concat:
    team = Case(When(team=None, then=Value("")), default=Concat("team__name", Value(between)))
    return Concat("customer__name", Value(between), team, "name")


def address(virtual_key: VirtualKey) -> str:
    """The key's name after its owners' names, as `find` reads it: `Acme/Platform/ci`."""
    owners = [virtual_key.customer.name, *([virtual_key.team.name] if virtual_key.team else [])]
    return "/".join([*owners, virtual_key.name])


def with_ends(rows: QuerySet[VirtualKey]) -> QuerySet[VirtualKey]:
    """The same rows with their owners loaded, and with the last characters of the newest secret in `end`."""
    secrets = Credential.objects.filter(virtual_key=OuterRef("pk"), kind=CredentialKind.VIRTUAL_KEY).order_by("-pk")
    return rows.select_related("customer", "team").annotate(end=Subquery(secrets.values("last")[:1]))


def known_by(virtual_key: VirtualKey) -> str:
    """The key as messages name it: `Acme/Platform/ci (id:17, …3k9f)`. The row must come from `with_ends`."""
    end = vars(virtual_key).get("end")
    revoked = f"revoked {virtual_key.revoked_at:%Y-%m-%d}" if virtual_key.revoked_at else ""
    about = ", ".join(filter(None, [f"id:{virtual_key.pk}", f"…{end}" if end else "", revoked]))
    return f"{address(virtual_key)} ({about})"


def check_name(virtual_key: VirtualKey) -> None:
    """Refuse a key, saved or not, whose name another key of the same owner has.

    Raises:
        Unusable: the name is taken; the message names the owner.
    """
    others = VirtualKey.objects.filter(
        name=virtual_key.name, customer=virtual_key.customer, team=virtual_key.team, revoked_at=None
    )
    if virtual_key.revoked_at is None and others.exclude(pk=virtual_key.pk).exists():
        raise Unusable(taken(virtual_key))


def taken(virtual_key: VirtualKey) -> str:
    """The message about a name that is taken."""
    owner = address(virtual_key).removesuffix(f"/{virtual_key.name}")
    return f"{owner} already has a virtual key “{virtual_key.name}”: choose another name, or revoke that one first"
