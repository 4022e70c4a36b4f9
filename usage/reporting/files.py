"""A report's table as a file: CSV, XLSX or JSON (keys/table_files.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from keys import demo_data
from keys.exports import PAGE, Export
from keys.table_files import TableFile
from usage import moments, questions
from usage.reporting import forecast_files, tables
from usage.reporting.asked import SHOWN, Asked
from usage.reporting.tables import Column

EXPORT = "usage.export_rollup"
# What has a table of lines by period and group. A forecast has tables of its own (forecast_files.py).
EXPORTED = tuple(name for name in SHOWN if name != "forecast")


def download(request: HttpRequest, asked: Asked, kind: str) -> Export:
    """The table as a download, streamed.

    Args:
        kind: one of `keys.table_files.FORMATS` (`keys.exports.wanted`).

    Raises:
        PermissionDenied: this person may see reports, and not export them.
        Unusable: the question can't be answered.
    """
    user = request.user
    if not user.has_perm(EXPORT):
        raise PermissionDenied
    if asked.show not in EXPORTED:
        return forecast_files.download(request, asked, kind, about(asked))
    # Before the first byte: an answer that has begun can only be cut.
    for each in (asked, asked.before) if asked.compare else (asked,):
        question = each.question()
        question.check()
        questions.whole(question)
    days = {"since": asked.days.first, "until": asked.days.last}
    return Export(
        request, "usage_rollup", table(asked, user), pages(asked, user), kind, **days, query=asked.query_string()
    )


def table(asked: Asked, user: Any, made_at: datetime | None = None) -> TableFile:
    """What the file says beside its rows."""
    columns = tables.columns(asked, user)
    titles = {column.key: title_of(column) for column in columns}
    exact = [titles[column.key] for column in columns if column.kind == "money"]
    name = f"{asked.show}-{asked.days.first}-{asked.days.last}"
    return TableFile(
        name, list(titles.values()), exact, about(asked, made_at), SHOWN[asked.show], [column.key for column in columns]
    )


def title_of(column: Column) -> str:
    """A column's title with its unit."""
    return f"{column.title}, {column.unit}" if column.unit else column.title


def about(asked: Asked, made_at: datetime | None = None) -> Mapping[str, str]:
    """The report, its range, zone and filter, and when the file was made."""
    words = dict(asked.heading())
    found = {"report": SHOWN[asked.show], "range": words.pop("Range"), "time_zone": words.pop("Time zone")}
    found["filter"] = "; ".join(f"{title}: {text}" for title, text in words.items()) or "all calls"
    if demo_data.is_demo():
        found["report"] += " (demo data)"
    return found | {"currency": "USD", "made_at": moments.show(made_at or moments.now())}


def pages(asked: Asked, user: Any) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, some at a time."""
    rows = tables.rows(asked, user)
    while page := list(islice(rows, PAGE)):
        yield page
