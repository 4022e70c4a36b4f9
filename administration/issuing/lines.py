"""Reads the keys that are issued at once: names, one a line, or CSV whose first line names the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from administration.issuing.terms import Own
from keys import commands, issuing, names
from keys.errors import Unusable
from usage import budget_terms
from usage.limits import LimitKind
from usage.new_keys import MOST_AT_ONCE

NAME = "name"
OTHERS = ("owner", "budget", *LimitKind.values, "expires", "labels")
COLUMNS = (NAME, *OTHERS)
SEPARATORS = ",;\t"


@dataclass(frozen=True, slots=True)
class Line:
    """A key that was asked for. `own` is None if the line has a fault."""

    number: int
    name: str
    own: Own | None
    fault: str = ""


def read(text: str) -> list[Line]:
    """The keys of a text.

    Raises:
        Unusable: there are none or too many, or a column is unknown.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    count = sum(1 for line in lines if line.strip())
    header = next((line for line in lines if line.strip()), "")
    separator = _separator(header)
    keys = count - 1 if separator else count
    if keys < 1:
        raise Unusable("there is no name: write one a line, or choose a file")
    if keys > MOST_AT_ONCE:
        raise Unusable(f"there are {keys:,} keys: issue at most {MOST_AT_ONCE} at once")
    found = _cells(lines, separator) if separator else [_named(number, line) for number, line in _filled(lines)]
    return _once(found)


def _filled(lines: list[str]) -> list[tuple[int, str]]:
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _separator(header: str) -> str:
    """What separates the columns that this line names; empty if it is a name itself.

    Raises:
        Unusable: it names columns that don't exist.
    """
    for separator in SEPARATORS:
        cells = _split(header, separator)
        if NAME in cells and (len(cells) > 1 or separator == SEPARATORS[0]):
            unknown = [cell for cell in cells if cell not in COLUMNS]
            if unknown or len(set(cells)) < len(cells):
                which = ", ".join(f"“{cell[: names.LENGTH]}”" for cell in unknown) or "one that is there twice"
                raise Unusable(f"the first line names a column that can't be read: {which}; use {', '.join(COLUMNS)}")
            return separator
    return ""


def _split(line: str, separator: str) -> list[str]:
    try:
        cells: list[str] = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []
    return [cell.strip().lower() for cell in cells]


def _named(number: int, line: str) -> Line:
    try:
        return Line(number, line, Own(names.check(line, "the virtual key")))
    except Unusable as error:
        return Line(number, line[: names.LENGTH], None, str(error))


def _cells(lines: list[str], separator: str) -> list[Line]:
    found = []
    header: list[str] = []
    for number, line in _filled(lines):
        if not header:
            header = _split(line, separator)
            continue
        try:
            # Each line for itself: a quotation mark that isn't closed spoils one key, and not all that follow.
            cells = next(csv.reader([line], delimiter=separator, strict=True), [])
        except csv.Error as error:
            found.append(Line(number, line[: names.LENGTH], None, f"this isn't a line of CSV: {error}"))
            continue
        found.append(_row(number, header, [cell.strip() for cell in cells]))
    return found


def _row(number: int, header: list[str], cells: list[str]) -> Line:
    values = dict(zip(header, cells, strict=False))
    name = values.get(NAME, "")
    if len(cells) > len(header):
        return Line(
            number, name[: names.LENGTH], None, f"it has {len(cells)} columns, and the first line {len(header)}"
        )
    own: dict[str, Any] = {}
    for column in header:
        if column != NAME and (text := values.get(column)):
            try:
                own |= _read(column, text)
            except Unusable as error:
                return Line(number, name[: names.LENGTH], None, f"{column}: {error}")
    try:
        checked = names.check(name, "the virtual key")
    except Unusable as error:
        return Line(number, name[: names.LENGTH], None, str(error))
    limits = {kind: own.pop(kind.value) for kind in LimitKind if kind.value in own}
    return Line(number, checked, Own(checked, limits=limits, **own))


def _read(column: str, text: str) -> dict[str, Any]:
    """A cell that isn't empty, as a value of `Own`."""
    if column in LimitKind.values:
        return {column: budget_terms.parse_rate(text, "limit")}
    readers: dict[str, Callable[[str], dict[str, Any]]] = {
        "owner": lambda text: {"owner": _owner(text)},
        "budget": lambda text: {"budget": budget_terms.parse(text.removeprefix("$"))},
        "expires": lambda text: {"expires_at": commands.moment(text)},
        "labels": lambda text: {"labels": _labels(text)},
    }
    return readers[column](text)


def _owner(text: str) -> str:
    issuing.check_owner(text)
    return text


def _labels(text: str) -> dict[str, str]:
    found = commands.labels(part for part in re.split(r"[;,]\s*", text) if part)
    issuing.check_labels(found)
    return found


def _once(lines: list[Line]) -> list[Line]:
    """The lines, with a fault in each whose name was there before."""
    first: dict[str, int] = {}
    found = []
    for line in lines:
        before = first.setdefault(line.name, line.number) if line.own else line.number
        if before != line.number:
            line = Line(line.number, line.name, None, f"it has the same name as line {before}")
        found.append(line)
    return found
