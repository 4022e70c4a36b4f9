"""The e-mail of a saved report: what its reader may see of it, as text and as HTML, with the whole table when small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from keys import viewer
from keys.errors import Unusable
from keys.product import NAME
from keys.table_files import FORMATS
from usage import amounts
from usage.reporting import files, tables
from usage.reporting.asked import Asked
from usage.reporting.saved import asked_by, in_words
from usage.reporting.tables import Column
from usage.saved_reports import SavedReport

LINES = 50
# What is attached at most. A longer table is on the page only.
MOST_ROWS, MOST_BYTES = 5000, 2_000_000
LABELS = ("moment", "id", "text")


@dataclass(frozen=True, slots=True)
class Mail:
    """What is sent: the text's lines, the same as HTML, and files by name."""

    subject: str
    lines: list[str]
    html: str
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """A report in words, for both forms of a mail.

    Attributes:
        titles: of the columns; `numbers`: which of them have numbers.
        rows: at most `LINES`; `more`: whether there are others.
        problem: why there is no table; empty: there is one.
    """

    heading: list[tuple[str, str]]
    titles: list[str] = field(default_factory=list)
    numbers: list[bool] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    total: list[str] = field(default_factory=list)
    more: bool = False
    problem: str = ""


def made(report: SavedReport, user: Any, at: datetime) -> Mail:
    """The mail of a report to a person.

    Args:
        at: when it is made.
    """
    said = Said([])
    found: dict[str, tuple[bytes, str]] = {}
    try:
        asked = asked_by(report.query, user)
        with viewer.viewing(asked.zone, viewer.ENGLISH):
            heading = asked.heading()
            try:
                said, found = _table(asked, user, heading, at)
            except Unusable as error:
                said = Said(heading, problem=in_words(error))
    except Unusable as error:
        said = Said([], problem=in_words(error))
    context = {"name": report.name, "said": said, "url": url_of(report), "product": NAME, "attached": bool(found)}
    html = render_to_string("mails/report.html", context)
    return Mail(" ".join(f"{NAME}: {report.name}".split()), _text(report, said, attached=bool(found)), html, found)


def url_of(report: SavedReport) -> str:
    """The address of the page from which a reader opens the report, or stops its mails; empty: it isn't known."""
    base = settings.CONFIGURATION.public_url
    return f"{base}{quote(reverse('admin:saved_report', args=[report.pk]))}" if base else ""


def _table(asked: Asked, user: Any, heading: list[tuple[str, str]], at: datetime) -> tuple[Said, dict[str, Any]]:
    """The first lines, the total, and the file with all.

    Raises:
        Unusable: the question can't be answered.
    """
    if asked.show not in files.EXPORTED:
        raise Unusable("a forecast is on its page only")
    columns = tables.columns(asked, user)
    some, rows = 0, []
    for page in files.pages(asked, user):
        rows += page
        some += len(page)
        if some > MOST_ROWS:
            break
    # Without periods, the most expensive first; with them, as on the page: in the order of time.
    shown = (
        rows
        if asked.every or asked.show == "movers"
        else sorted(rows, key=lambda row: _size(columns, row), reverse=True)
    )
    whole = replace(asked, every=None, by=())
    totals = next(tables.rows(whole, user), None) if asked.show != "movers" else None
    total = dict(zip([column.key for column in tables.columns(whole, user)], totals or (), strict=False))
    said = Said(
        heading,
        [files.title_of(column) for column in columns],
        [column.kind not in LABELS for column in columns],
        [[_shown(column, value) for column, value in zip(columns, row, strict=True)] for row in shown[:LINES]],
        [_shown(column, total.get(column.key)) for column in columns] if totals else [],
        len(rows) > LINES,
    )
    return said, _file(asked, user, rows, at) if some <= MOST_ROWS and user.has_perm(files.EXPORT) else {}


def _file(asked: Asked, user: Any, rows: Sequence[Any], at: datetime) -> dict[str, tuple[bytes, str]]:
    table, kind = files.table(asked, user, at), FORMATS["xlsx"]
    content = b"".join(kind.make(table, [rows]))
    return {f"{table.name}.xlsx": (content, kind.media)} if len(content) <= MOST_BYTES else {}


def _size(columns: Sequence[Column], row: Sequence[Any]) -> Decimal:
    """What a row is ordered by: its first amount, or else its first number."""
    for kinds in (("money",), ("count",)):
        for column, value in zip(columns, row, strict=True):
            if column.kind in kinds:
                return Decimal(value or 0)
    return Decimal(0)


def _shown(column: Column, value: Any) -> str:
    """A value for people."""
    if value is None:
        return "" if column.kind in LABELS else amounts.NONE
    if column.kind == "money":
        return amounts.usd(Decimal(value))
    if column.kind == "moment":
        moment: datetime = value
        return f"{moment:%Y-%m-%d}" if not (moment.hour or moment.minute) else f"{moment:%Y-%m-%d %H:%M}"
    if column.kind == "percent":
        return f"{round(value, 1)}"
    return viewer.number(value) if column.kind in ("count", "milliseconds") else str(value)


def _text(report: SavedReport, said: Said, *, attached: bool) -> list[str]:
    lines = [report.name, ""] + [f"{title}: {text}" for title, text in said.heading] + [""]
    if said.problem:
        lines += [f"The report can't be made: {said.problem}", ""]
    elif not said.rows:
        lines += ["There are no calls in this range.", ""]
    else:
        lines += [*_aligned(said), ""]
        if said.more:
            lines += [
                f"The first {LINES} lines. The page{' and the attached file have' if attached else ' has'} all.",
                "",
            ]
    url = url_of(report)
    if url:
        lines += [f"Open the report, or stop this e-mail: {url}"]
    else:
        lines += [f"Find the report, or stop this e-mail, under Usage, Saved reports at {NAME}."]
    return lines


def _aligned(said: Said) -> list[str]:
    """The table as lines of text: labels to the left, numbers to the right."""
    total = [["Total", *said.total[1:]] if said.total else []]
    if total[0] and said.numbers[:1] == [True]:
        total = [said.total]
    table = [said.titles, *said.rows, *(each for each in total if each)]
    widths = [max(len(row[at]) for row in table) for at in range(len(said.titles))]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, said.numbers, strict=True)
        ).rstrip()
        for row in table
    ]
