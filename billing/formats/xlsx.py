"""A document as a workbook: its particulars, and its lines.

Spreadsheets keep 15 digits of a number. So amounts in USD, which have more, are texts in a second column each.
"""

from __future__ import annotations

import io
from datetime import UTC
from decimal import Decimal
from typing import Any

from billing import documents
from billing.formats import csv_file
from billing.models import Statement
from keys import workbooks
from keys.csv_lines import money

EXACT = ("list_price", "unit_price", "list_amount", "discount", "net")
# Names with which programs and spreadsheets compare; texts stay texts.
OPTIONS = {
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "constant_memory": True,
    "in_memory": True,
}


def make(statement: Statement) -> bytes:
    """The file."""
    from xlsxwriter import Workbook  # imported for a download only: web processes don't need it

    file = io.BytesIO()
    with Workbook(file, OPTIONS) as book:
        # The same document is the same file each time.
        book.set_properties(
            {"title": statement.number, "created": statement.issued_at.astimezone(UTC).replace(tzinfo=None)}
        )
        sheet = book.add_worksheet("Document")
        sheet.set_column(0, 0, 24)
        sheet.set_column(1, 1, 60)
        for row, (title, value) in enumerate(particulars(statement)):
            sheet.write_string(row, 0, title)
            write(sheet, row, 1, value)
        sheet = book.add_worksheet("Lines")
        sheet.freeze_panes(1, 0)
        columns = headings()
        for column, title in enumerate(columns):
            sheet.write_string(0, column, title)
        for row, values in enumerate(csv_file.rows(statement), 1):
            for column, value in enumerate(cells(values)):
                write(sheet, row, column, value)
    return file.getvalue()


def headings() -> list[str]:
    """The titles of the columns."""
    return workbooks.with_exact(csv_file.COLUMNS, EXACT)


def cells(values: list[Any]) -> list[Any]:
    """The cells of a line."""
    found = []
    for name, value in zip(csv_file.COLUMNS, values, strict=True):
        found.append(value)
        if name in EXACT:
            found.append(None if value is None else money(value))
    return found


def write(sheet: Any, row: int, column: int, value: Any) -> None:
    """Write a cell as what it is."""
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int | Decimal):
        sheet.write_number(row, column, value)
    elif value not in (None, ""):
        sheet.write_string(row, column, workbooks.plain_text(value))


def particulars(statement: Statement) -> list[tuple[str, Any]]:
    """Titles and values."""
    said = documents.said(statement)
    rate, period = said["exchange_rate"], said["period"]
    return [
        ("Number", statement.number),
        ("Document", statement.get_kind_display()),
        ("Corrects", said["corrects"]),
        ("Reason", said["reason"]),
        ("Issuer", said["issuer"]["name"]),
        ("Issuer's address", said["issuer"]["address"]),
        ("Customer", said["customer"]["billing_name"]),
        ("Customer's address", said["customer"]["address"]),
        ("Team", said["team"]["name"] if said["team"] else ""),
        ("Month", said["month"]),
        ("From (UTC)", period["starts_at"]),
        ("Until before (UTC)", period["ends_at"]),
        ("Time zone", period["zone"]),
        ("Issued (UTC)", said["issued_at"]),
        ("Currency", statement.currency),
        ("Total", statement.total),
        ("Total in USD, exact", said["total_usd"]),
        ("Exchange rate", f"{rate['rate']} ({rate['source']}, {rate['valid_from']})" if rate else ""),
        ("Price book", said["price_book"]["list_prices"]),
        ("Calls", said["calls"]),
        ("SHA-256", statement.hash),
        ("SHA-256 of the document before", statement.previous_hash),
        ("Note", documents.NOTE),
    ]
