"""Files of a table, for people and programs: CSV, XLSX and JSON, made a piece at a time.

Each says in the file what the table is about (`about`): its filter, its time zone and when it was made. CSV has this on
each line, in columns after the others, so that its first line stays the line of titles; XLSX has a sheet for it, and
JSON a member. Amounts are exact in each: JSON has them as texts, and XLSX as numbers (which have 15 digits) with a text
in a second column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from keys import workbooks
from keys.csv_lines import BYTE_ORDER_MARK, csv_line, money

Pages = Iterable[Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table that becomes a file.

    Attributes:
        name: of the file, without its ending.
        columns: the titles of the columns; no two are the same.
        exact: those of amounts that may have more than 15 digits.
        keys: the names of the columns for programs, in JSON; empty: their titles.
        about: what the file says about its rows, by names in small letters such as `time_zone`.
        title: of the sheet.
    """

    name: str
    columns: Sequence[str]
    exact: Collection[str] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    title: str = "Rows"
    keys: Sequence[str] = ()


def as_csv(file: TableFile, pages: Pages) -> Generator[bytes]:
    """A line of titles, then a line for each row."""
    about = list(file.about.values())
    yield (BYTE_ORDER_MARK + csv_line([*file.columns, *file.about])).encode()
    for page in pages:
        yield "".join(csv_line([*(_plain(value) for value in row), *about]) for row in page).encode()


def as_json(file: TableFile, pages: Pages) -> Generator[bytes]:
    """One object: `about`, `columns`, and `rows` with an object for each row, on a line of its own."""
    names = list(file.keys or file.columns)
    yield f'{{"about": {_json(file.about)},\n"columns": {_json(names)},\n"rows": ['.encode()
    between = "\n"
    for page in pages:
        lines = (_json(dict(zip(names, row, strict=True))) for row in page)
        if piece := ",\n".join(lines):
            yield (between + piece).encode()
            between = ",\n"
    yield b"\n]}\n"


def as_xlsx(file: TableFile, pages: Pages) -> Generator[bytes]:
    """A sheet with the rows (or several, of more rows than a sheet can have), and one with what they are about."""
    book = workbooks.Workbook()
    exact = [title in file.exact for title in file.columns]
    yield book.sheet(file.title, workbooks.with_exact(file.columns, file.exact))
    for page in pages:
        # Of a few rows, nothing is ready yet.
        if piece := book.rows(_cells(row, exact) for row in page):
            yield piece
    about = book.sheet("About", ("About", ""))
    about += book.rows((name.replace("_", " ").capitalize(), value) for name, value in file.about.items())
    yield about + book.end()


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: its media type, and what makes it."""

    media: str
    make: Callable[[TableFile, Pages], Generator[bytes]]


# By the end of the file's name, which is also what URLs ask for.
FORMATS: dict[str, Format] = {
    "csv": Format("text/csv; charset=utf-8", as_csv),
    "xlsx": Format(workbooks.MEDIA, as_xlsx),
    "json": Format("application/json", as_json),
}


def as_text(value: Any) -> str:
    """What JSON has for a value that it doesn't know: exact digits of an amount, and ISO 8601.

    Raises:
        TypeError: the value is of another kind.
    """
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a table has no values of type {type(value).__name__}")


def _cells(row: Sequence[Any], exact: Sequence[bool]) -> list[Any]:
    found: list[Any] = []
    for value, with_text in zip(row, exact, strict=True):
        found.append(json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else _plain(value))
        if with_text:
            found.append(None if value is None else money(value))
    return found


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=as_text)
