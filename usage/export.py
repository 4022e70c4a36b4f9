"""Exports the ledger for other programs: one row per call, oldest first, as JSON lines, CSV, XLSX or JSON.

It reads the ledger in pages by id, each page in a statement of its own: a long snapshot would slow the writers down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet

from keys.csv_lines import csv_line
from keys.models import Credential, Customer, ProviderKey, Team, VirtualKey
from keys.table_files import FORMATS, TableFile, as_text
from usage import moments, request_ids
from usage.models import LedgerEntry
from usage.splits import CATEGORIES, NONE

PAGE = 1000

# A row's id holds its time by the web process's clock, its columns by the database's. A search by time finds rows for
# which the two clocks differ by at most this.
CLOCKS = timedelta(days=1)
FIRST, LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Range:
    """Which rows to export: admitted from `since` (inclusive) to `until` (exclusive), of one virtual key or of all."""

    since: datetime | None = None
    until: datetime | None = None
    virtual_key: int | None = None

    def rows(self) -> QuerySet[LedgerEntry]:
        """The ledger rows, oldest first."""
        rows = LedgerEntry.objects.order_by("id")
        if self.since:
            rows = rows.filter(admitted_at__gte=self.since, id__gte=first_id(self.since))
        if self.until:
            rows = rows.filter(admitted_at__lt=self.until, id__lt=last_id(self.until))
        return rows.filter(virtual_key=self.virtual_key) if self.virtual_key is not None else rows


class Names:
    """Names for the ids in a column, such as team ids. They are looked up a page at a time, and cached."""

    def __init__(self, model: type[Model], *fields: str) -> None:
        self.model = model
        self.fields = fields
        self.known: dict[int, tuple[str, ...]] = {}

    def learn(self, ids: Iterable[int | None]) -> None:
        """Look up the ids that aren't cached yet."""
        missing = {id for id in ids if id is not None} - self.known.keys()
        if missing:
            rows = self.model._default_manager.filter(pk__in=missing).values_list("pk", *self.fields)
            self.known |= {id: fields for id, *fields in rows}

    def get(self, id: int | None, field: int = 0) -> str | None:
        """One field of the row with this id; the id itself if the row no longer exists."""
        if id is None:
            return None
        return self.known[id][field] if id in self.known else str(id)


Directory = Mapping[str, Names]
Column = Callable[[LedgerEntry, Directory], Any]


def _value(name: str) -> Column:
    return lambda row, names: getattr(row, name)


def _name(column: str) -> Column:
    return lambda row, names: names[column].get(getattr(row, column))


def _part(amount: str, at: int) -> Column:
    """A part of `cost` or `owed`, by its place in the split; after the last one, what belongs to no category."""
    split, last = f"{amount}_split", len(CATEGORIES)

    def part(row: LedgerEntry, names: Directory) -> Decimal:
        parts = getattr(row, split) or []
        if at < last:
            return parts[at] if at < len(parts) else NONE
        rest: Decimal = getattr(row, amount) - sum(parts, NONE)
        return rest

    return part


# In the order of the export. Programs rely on these names and their order: append only, never rename or reorder.
COLUMNS: Mapping[str, Column] = {
    "request_id": lambda row, names: request_ids.request_id(row.id),
    "provider_request_id": _value("provider_request_id"),
    "started_at": _value("admitted_at"),
    "ended_at": _value("ended_at"),
    "customer": _name("customer_id"),
    "team": _name("team_id"),
    "virtual_key": _name("virtual_key_id"),
    "endpoint": _value("endpoint"),
    "requested_model": _value("requested_model"),
    "model": _value("model"),
    "provider": _value("provider"),
    "provider_key": _name("provider_key_id"),
    "status": _value("status"),
    "http_status": _value("http_status"),
    "stop_reason": _value("stop_reason"),
    "stream": _value("stream"),
    "input_tokens": _value("input_tokens"),
    "output_tokens": _value("output_tokens"),
    "thinking_tokens": _value("thinking_tokens"),
    "cache_read_input_tokens": _value("cache_read_input_tokens"),
    "cache_creation_5m_input_tokens": _value("cache_creation_5m_input_tokens"),
    "cache_creation_1h_input_tokens": _value("cache_creation_1h_input_tokens"),
    "web_search_requests": _value("web_search_requests"),
    "iterations": _value("iterations"),
    "service_tier": _value("service_tier"),
    "inference_geo": _value("inference_geo"),
    "cost": _value("cost"),
    "currency": _value("currency"),
    "estimated": _value("estimated"),
    "time_to_first_byte_ms": _value("time_to_first_byte_ms"),
    "duration_ms": _value("duration_ms"),
    "attempts": _value("attempts"),
    "speed": _value("speed"),
    "error_type": _value("error_type"),
    "credential_kind": lambda row, names: names["credential"].get(row.credential),
    "credential_name": lambda row, names: names["credential"].get(row.credential, 1),
    "labels": _value("labels"),
    "client_labels": _value("client_labels"),
    "price_version": _value("price_version"),
    "price_flag": _value("price_flag"),
    "held": _value("held"),
    "charge": _value("owed"),
    # The parts of both amounts. Each row's parts are its amount, to the last digit.
    **{f"cost_{name}": _part("cost", at) for at, name in enumerate((*CATEGORIES, "rest"))},
    **{f"charge_{name}": _part("owed", at) for at, name in enumerate((*CATEGORIES, "rest"))},
}
AMOUNTS = tuple(name for name in COLUMNS if name == "held" or name.startswith(("cost", "charge")))


def first_id(moment: datetime) -> UUID:
    """The lowest id of a row that may have been admitted at this moment, or later."""
    return request_ids.first_id(_bounded(moment) - CLOCKS)


def last_id(moment: datetime) -> UUID:
    """An id that is higher than that of any row that was admitted before this moment."""
    return request_ids.first_id(_bounded(moment) + CLOCKS)


def read(wanted: Range) -> Iterator[dict[str, Any]]:
    """The rows of a range, as `described`."""
    return described(pages(wanted.rows()))


def described(parts: Iterable[list[LedgerEntry]]) -> Iterator[dict[str, Any]]:
    """The rows as mappings from `COLUMNS` to values: text, int, bool, Decimal and None; for JSON, also lists."""
    names: Directory = {
        "customer_id": Names(Customer, "name"),
        "team_id": Names(Team, "name"),
        "virtual_key_id": Names(VirtualKey, "name"),
        "provider_key_id": Names(ProviderKey, "name"),
        "credential": Names(Credential, "kind", "name"),
    }
    for page in parts:
        for column, known in names.items():
            known.learn(getattr(row, column) for row in page)
        for row in page:
            yield {column: _plain(value(row, names)) for column, value in COLUMNS.items()}


def pages(rows: QuerySet[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """The rows in pages; each page starts after the last id of the page before."""
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(id__gt=page[-1].id)[:PAGE]) if len(page) == PAGE else []


def as_jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Each row as a line with a JSON object."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, default=as_text) + "\n"


def as_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A header, then a line per row. Booleans become true and false, lists and mappings JSON, None an empty cell."""
    yield csv_line(COLUMNS)
    for row in rows:
        yield csv_line(row.values())


LINES = {"jsonl": as_jsonl, "csv": as_csv}
KINDS = (*LINES, *(kind for kind in FORMATS if kind not in LINES))


def as_file(kind: str, rows: Iterable[Mapping[str, Any]], about: Mapping[str, str]) -> Generator[bytes]:
    """The rows as a file that says what they are about: one of `FORMATS`."""
    return FORMATS[kind].make(table("usage", about), _gathered(rows))


def table(name: str, about: Mapping[str, str]) -> TableFile:
    """The file of calls in these columns."""
    return TableFile(name, list(COLUMNS), AMOUNTS, about, "Calls")


def _gathered(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[list[Any]]]:
    some = iter(rows)
    while page := [list(row.values()) for row in islice(some, PAGE)]:
        yield page


def _plain(value: Any) -> Any:
    return moments.show(value) if isinstance(value, datetime) else value


def _bounded(moment: datetime) -> datetime:
    return min(max(moment, FIRST), LAST)
