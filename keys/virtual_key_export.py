"""The list of virtual keys as CSV: the rows that fit the list's filters and search, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from keys.exports import PAGE, Export
from keys.models import VirtualKey
from keys.table_files import TableFile

HEADER = (
    *("id", "name", "customer", "team", "owner", "state", "key", "provider_keys", "allowed_models", "denied_models"),
    *("created_at", "expires_at", "revoked_at", "revoke_reason", "labels"),
)


def download(request: HttpRequest, rows: QuerySet[VirtualKey], *, ends: bool) -> HttpResponseBase:
    """These virtual keys as a download. The log has the filter, and not the search: it may be a whole key.

    Args:
        rows: with their `secrets`, latest first, and their customers and teams.
        ends: whether the file has the first and last characters of each key.
    """
    filters = request.GET.copy()
    searched = bool(filters.pop("q", [""])[-1])
    query = filters.urlencode() or None
    found = rows.prefetch_related("provider_keys").order_by("pk")
    return Export(
        request,
        VirtualKey._meta.db_table,
        TableFile("virtual-keys", HEADER),
        _pages(found, ends),
        query=query,
        searched="yes" if searched else None,
    )


def state_of(row: VirtualKey) -> str:
    """The key's state in words, also that of its customer and team."""
    if row.state == "active":
        if row.customer.paused:
            return "customer paused"
        if row.team and row.team.paused:
            return "team paused"
    return row.state


def _pages(rows: QuerySet[VirtualKey], ends: bool) -> Iterator[list[tuple[Any, ...]]]:
    last, newest = 0, VirtualKey.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    while page := list(rows.filter(pk__gt=last, pk__lte=newest)[:PAGE]):
        last = page[-1].pk
        yield [_cells(row, ends) for row in page]


def _cells(row: Any, ends: bool) -> tuple[Any, ...]:
    moments = (at.isoformat() if at else None for at in (row.created_at, row.expires_at, row.revoked_at))
    return (
        *(row.pk, row.name, row.customer.name, row.team.name if row.team else None, row.owner, state_of(row)),
        str(row.secrets[0]) if ends and row.secrets else None,
        ", ".join(sorted(key.name for key in row.provider_keys.all())),
        *(", ".join(row.allowed_models), ", ".join(row.denied_models)),
        *moments,
        row.revoke_reason,
        row.labels,
    )
