"""The dimensions of reports: their titles, and the names of their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from keys import provider_kinds
from keys.models import Customer, ProviderKey, Team, VirtualKey
from usage.models import Status
from usage.questions import DIMENSIONS

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a report can be grouped and filtered by.

    Attributes:
        model: whose rows the values are, by id; None: the values are texts.
        names: the fields that make up a row's name.
        more: fields before these, if several rows have the same name.
        without: what is said of calls that have none; empty: all have one.
        empty: the value of calls that have none.
    """

    name: str
    title: str
    model: type[Model] | None = None
    names: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    without: str = ""
    empty: str | None = None


# Names aren't unique: two customers may have teams with the same name, and two teams keys with the same name.
ALL = {
    each.name: each
    for each in (
        Dimension("customer", "Customer", Customer, ("name",)),
        Dimension("team", "Team", Team, ("customer__name", "name"), without="a team"),
        Dimension("key", "Key", VirtualKey, ("name",), ("customer__name", "team__name")),
        Dimension("cost_centre", "Cost centre", without="a cost centre", empty=""),
        Dimension("project", "Project", without="a project", empty=""),
        Dimension("provider", "Provider"),
        Dimension("provider_key", "Provider key", ProviderKey, ("name",), without="a provider key"),
        Dimension("model", "Model"),
        Dimension("service_tier", "Service tier", without="a service tier", empty=""),
        Dimension("speed", "Speed", without="a speed", empty=""),
        Dimension("status", "Status"),
        Dimension("stream", "Stream"),
    )
}
assert list(ALL) == list(DIMENSIONS)
# What calls can be without.
WITHOUT = {name: each for name, each in ALL.items() if each.without}
STREAMED = {True: "streamed", False: "in one piece"}

Names = Mapping[Any, str]


def names_of(name: str, ids: Collection[Any], *, whole: bool = False) -> dict[Any, str]:
    """The names of rows by their ids; one query. A row that is gone is called by its id.

    Args:
        whole: each name with those of its owners. Otherwise only if several of the rows have the same name.
    """
    dimension = ALL[name]
    wanted = {each for each in ids if each is not None}
    if dimension.model is None or not wanted:
        return {}
    fields = (*dimension.more, *dimension.names)
    found = {
        pk: dict(zip(fields, values, strict=True))
        for pk, *values in dimension.model._default_manager.filter(pk__in=wanted).values_list("pk", *fields)
    }
    called = {pk: f"#{pk}" for pk in wanted - set(found)}
    return called | distinct(found, dimension, whole=whole)


def distinct(rows: Mapping[Any, Mapping[str, Any]], dimension: Dimension, *, whole: bool = False) -> dict[Any, str]:
    """A distinct name for each of these rows."""
    more = (*dimension.more, *dimension.names)
    called = {pk: _joined(row, more if whole else dimension.names) for pk, row in rows.items()}
    for fields in (more, ()):
        alike = Counter(called.values())
        # Full names can be equal too: a team “C” of “A / B”, and “B / C” of “A”. Then the id is added.
        called |= {
            pk: _joined(rows[pk], fields) if fields else f"{name} #{pk}"
            for pk, name in called.items()
            if alike[name] > 1
        }
    return called


def _joined(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    return " / ".join(str(row[field]) for field in fields if row[field] is not None)


def all_names(by: Sequence[str], groups: Collection[tuple[Any, ...]], *, whole: bool = False) -> dict[str, Names]:
    """The names of the values in these groups, by dimension. One query for each dimension of rows."""
    return {
        name: names_of(name, {group[at] for group in groups}, whole=whole)
        for at, name in enumerate(by)
        if ALL[name].model is not None
    }


def in_words(name: str, value: Any, names: Names) -> str:
    """A value for people."""
    if value in (None, ""):
        return NOTHING
    if name == "stream":
        return STREAMED[bool(value)]
    if name == "status":
        return str(dict(Status.choices).get(value, value))
    if name == "provider":
        return str(dict(provider_kinds.choices()).get(value, value))
    return names.get(value, str(value))
