"""Writes lines of CSV that spreadsheets show as they are."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

# Spreadsheets read a file that begins with this mark as UTF-8, and others in the computer's own character set.
BYTE_ORDER_MARK = "\ufeff"
# Some spreadsheets run a text that begins with one of these as a formula, also in its full-width form, and also after
# invisible characters, which they trim (https://owasp.org/www-community/attacks/CSV_Injection, 2026-11).
FORMULAS = "=+-@\u2212"
BREAKS = "\t\r\n"
# Unicode categories of invisible characters: control and format characters, combining marks, and spaces.
UNSEEN = ("C", "Mn", "Me", "Z")
# Invisible characters in visible categories: Hangul fillers and Braille's empty pattern.
BLANK = "\u115f\u1160\u3164\uffa0\u2800"


def csv_line(values: Iterable[Any]) -> str:
    """One line of CSV. None becomes an empty cell; numbers are not rounded. A text that a spreadsheet would run as a
    formula is prefixed with an apostrophe."""
    line = io.StringIO()
    # The writer quotes cells with characters of its line end: with \r\n, it also quotes a lone carriage return.
    csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Any) -> str | int:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and is_formula(value):
        return "'" + value
    return value  # type: ignore[no-any-return]


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may run the text as a formula."""
    for letter in text:
        if letter in BREAKS:
            return True
        if letter not in BLANK and not unicodedata.category(letter).startswith(UNSEEN):
            return unicodedata.normalize("NFKC", letter)[0] in FORMULAS
    return False


def money(amount: Decimal) -> str:
    """The amount as plain digits, without trailing zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
