"""Writes workbooks (XLSX) row by row, to a reader that gets the first bytes before the last row is known.

A workbook is a zip of XML files (ECMA-376, part 1, chapter 18). `zipfile` writes one to a target that can't be sought,
so no more than a part of a sheet is in memory. The list of sheets comes last, since their number isn't known before.

There are no formulas and no links: a text is a text, whatever it begins with.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr

MEDIA = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# Rows of a sheet, and characters of a cell, that spreadsheets take.
# https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3 (2026-11)
MOST_ROWS = 1_048_576
MOST_CHARACTERS = 32_000
# Beyond 2 GiB, a file of a zip needs fields that some programs don't read: another sheet begins before.
MOST_BYTES = 1_500_000_000
# Larger numbers lose digits as a spreadsheet's 64-bit floating-point numbers.
MOST_EXACT = 10**15
FIRST_DAY = date(1899, 12, 30)

HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SHEET = (
    f'{HEAD}<worksheet xmlns="{MAIN}"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" '
    'activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><sheetFormatPr defaultRowHeight="15"/><sheetData>'
)
SHEET_ENDS = "</sheetData></worksheet>"
# The styles of cells by number: plain, a day, a title.
DAY, TITLE = 1, 2
STYLES = (
    f'{HEAD}<styleSheet xmlns="{MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/>'
    '</numFmts><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/>'
    '<name val="Calibri"/></font></fonts><fills count="2"><fill><patternFill patternType="none"/></fill><fill>'
    '<patternFill patternType="gray125"/></fill></fills><borders count="1"><border/></borders><cellStyleXfs count="1">'
    '<xf/></cellStyleXfs><cellXfs count="3"><xf/><xf numFmtId="164" applyNumberFormat="1"/><xf fontId="1" '
    'applyFont="1"/></cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    "</styleSheet>"
)
# What XML can't have, and what programs would read as an escaped character.
NOT_XML = re.compile("[^\t\n\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")


def plain_text(value: Any) -> str:
    """A value as a cell's text: without characters that XML doesn't have, and not longer than a cell."""
    return NOT_XML.sub("\ufffd", str(value))[:MOST_CHARACTERS]


def exact_title(title: str) -> str:
    """The title of the column of texts beside a column of amounts that have more digits than a number of a
    spreadsheet (15)."""
    return f"{title}_exact" if title.islower() else f"{title} (exact)"


def with_exact(titles: Sequence[str], exact: Collection[str]) -> list[str]:
    """The titles of a sheet, with one more after each column of amounts."""
    return [each for title in titles for each in ((title, exact_title(title)) if title in exact else (title,))]


class Workbook:
    """A workbook that is written from its first row to its last: call `sheet`, then `rows`, and so on, and `end`. Each
    returns the bytes that are ready."""

    def __init__(self, level: int = 1) -> None:
        """A workbook without sheets. `level`: how hard it is compressed, from 1 to 9."""
        self.made = _Made()
        target: Any = self.made  # `zipfile` needs no more of a target than it has
        self.zip = zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=level)
        self.names: list[str] = []
        self.file: Any = None
        self.name, self.titles, self.parts = "", (), 0  # type: tuple[str, Sequence[str], int]
        self.row = self.bytes = 0

    def sheet(self, name: str, titles: Sequence[str]) -> bytes:
        """Begin a sheet with a row of titles, after the end of the one before."""
        self.name, self.titles, self.parts = name, titles, 0
        self._begin()
        return self.made.taken()

    def rows(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """Write rows into the sheet. Where it is full, the next sheet begins, with the same titles."""
        for row in rows:
            if self.row >= MOST_ROWS or self.bytes >= MOST_BYTES:
                self._begin()
            self._write(row)
        return self.made.taken()

    def end(self) -> bytes:
        """Write what programs read first."""
        self._close()
        for name, content in self._frame():
            self.zip.writestr(name, content)
        self.zip.close()
        return self.made.taken()

    def _begin(self) -> None:
        self._close()
        self.parts += 1
        name = re.sub(r"[\[\]:*?/\\']", " ", self.name)[:25]
        self.names.append(name if self.parts == 1 else f"{name} {self.parts}")
        self.file = self.zip.open(f"xl/worksheets/sheet{len(self.names)}.xml", "w")
        self.row = self.bytes = 0
        self._put(SHEET)
        self._write(self.titles, TITLE)

    def _write(self, values: Sequence[Any], style: int = 0) -> None:
        self.row += 1
        cells = "".join(_cell(f"{column(at)}{self.row}", value, style) for at, value in enumerate(values))
        self._put(f'<row r="{self.row}">{cells}</row>')

    def _put(self, text: str) -> None:
        written = text.encode()
        self.bytes += len(written)
        self.file.write(written)

    def _close(self) -> None:
        if self.file is not None:
            self._put(SHEET_ENDS)
            self.file.close()
            self.file = None

    def _frame(self) -> Iterator[tuple[str, str]]:
        """The files that say what the sheets are."""
        numbers = range(1, len(self.names) + 1)
        kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
        parts = {"workbook.xml": "sheet.main", "styles.xml": "styles"}
        parts |= {f"worksheets/sheet{number}.xml": "worksheet" for number in numbers}
        sheets = "".join(
            f'<sheet name={quoteattr(name)} sheetId="{number}" r:id="rId{number}"/>'
            for number, name in zip(numbers, self.names, strict=True)
        )
        yield (
            "xl/workbook.xml",
            f'{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><bookViews><workbookView/></bookViews>'
            f"<sheets>{sheets}</sheets></workbook>",
        )
        yield "xl/styles.xml", STYLES
        links = [("worksheet", f"worksheets/sheet{number}.xml") for number in numbers] + [("styles", "styles.xml")]
        yield "xl/_rels/workbook.xml.rels", _relations(links)
        yield "_rels/.rels", _relations([("officeDocument", "xl/workbook.xml")])
        overrides = "".join(
            f'<Override PartName="/xl/{name}" ContentType="{kind}.{each}+xml"/>' for name, each in parts.items()
        )
        yield (
            "[Content_Types].xml",
            f'{HEAD}<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        )


class _Made:
    """What a zip is written to. It can't be sought, and forgets what is taken."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self.parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        """Nothing is kept back."""

    def taken(self) -> bytes:
        """What was written since the last call."""
        found = b"".join(self.parts)
        self.parts.clear()
        return found


def _relations(links: Iterable[tuple[str, str]]) -> str:
    found = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(links, 1)
    )
    return f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">{found}</Relationships>'


def column(at: int) -> str:
    """The letters of a column: 0 is A, 26 is AA."""
    return COLUMNS[at] if at < len(COLUMNS) else column(at // 26 - 1) + COLUMNS[at % 26]


COLUMNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _cell(place: str, value: Any, style: int) -> str:
    """A cell as what it is: a number, a day, true or false, or a text; nothing for an empty one."""
    styled = f' s="{style}"' if style else ""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float | Decimal) and -MOST_EXACT < value < MOST_EXACT:
        return f'<c r="{place}"><v>{format(value, "f") if isinstance(value, Decimal) else value}</v></c>'
    if isinstance(value, date) and not isinstance(value, datetime) and value > FIRST_DAY:
        return f'<c r="{place}" s="{DAY}"><v>{(value - FIRST_DAY).days}</v></c>'
    text = escape(ESCAPED.sub("_x005F_", plain_text(value)))
    return f'<c r="{place}"{styled} t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
