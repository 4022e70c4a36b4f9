"""Virtual keys as people name them: by name, with their owner's before it, by number, or by the end of their secret.

A name is one of a kind among the keys of one team (or of one customer without a team) that are not revoked; capitals
matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Concat

from keys.errors import Unusable
from keys.models import Credential, CredentialKind, VirtualKey

# For the help of commands.
SAID = "its name, CUSTOMER/TEAM/NAME, id:NUMBER or its last characters"
HOW = "name it by CUSTOMER/TEAM/NAME, id:NUMBER or its last characters"
ID = re.compile(r"(?:id:)?([0-9]{1,18})")
END = re.compile(r"(?:…|\.\.\.)?([0-9A-Za-z]{4})")
# Of several that may be meant, a message lists these many at most.
LISTED = 8


def find(text: str) -> VirtualKey:
    """The virtual key that is meant: `ci`, `Acme/ci`, `Acme/Platform/ci`, `id:17` or `17`, `…3k9f` or `3k9f`. Of those
    that a text fits, one that is not revoked is meant.

    Raises:
        Unusable: there is none, or there are several; the message says which.
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
            raise Unusable(f"several virtual keys may be meant by “{text}”: {which}{more}; {HOW}")
    raise Unusable(f"there is no virtual key “{text}”")


def _fitting(text: str) -> Iterator[QuerySet[VirtualKey]]:
    """What a text may mean, the likeliest first. Names may be numbers, and contain slashes themselves."""
    # Of many, those that are not revoked come first.
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
    """Its name with its owner's, as `find` takes it: `Acme/Platform/ci`."""
    owners = [virtual_key.customer.name, *([virtual_key.team.name] if virtual_key.team else [])]
    return "/".join([*owners, virtual_key.name])


def with_ends(rows: QuerySet[VirtualKey]) -> QuerySet[VirtualKey]:
    """The same, each with its owners and the last characters of its newest secret in `end`."""
    secrets = Credential.objects.filter(virtual_key=OuterRef("pk"), kind=CredentialKind.VIRTUAL_KEY).order_by("-pk")
    return rows.select_related("customer", "team").annotate(end=Subquery(secrets.values("last")[:1]))


def known_by(virtual_key: VirtualKey) -> str:
    """Which one it is, in a message: `Acme/Platform/ci (id:17, …3k9f)`. The row is from `with_ends`."""
    end = vars(virtual_key).get("end")
    revoked = f"revoked {virtual_key.revoked_at:%Y-%m-%d}" if virtual_key.revoked_at else ""
    about = ", ".join(filter(None, [f"id:{virtual_key.pk}", f"…{end}" if end else "", revoked]))
    return f"{address(virtual_key)} ({about})"


def check_name(virtual_key: VirtualKey) -> None:
    """Refuse a name that another key of the same owner has, saved or not.

    Raises:
        Unusable: with whose it is.
    """
    others = VirtualKey.objects.filter(
        name=virtual_key.name, customer=virtual_key.customer, team=virtual_key.team, revoked_at=None
    )
    if virtual_key.revoked_at is None and others.exclude(pk=virtual_key.pk).exists():
        raise Unusable(taken(virtual_key))


def taken(virtual_key: VirtualKey) -> str:
    """Why a name can't be had."""
    owner = address(virtual_key).removesuffix(f"/{virtual_key.name}")
    return f"there is a virtual key “{virtual_key.name}” of {owner} already that is not revoked"
