"""A document's lines as CSV for people: exact numbers, and the document's particulars on each line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from billing import documents
from billing.models import Statement
from keys.csv_lines import BYTE_ORDER_MARK, csv_line

COLUMNS = (
    *("number", "document", "month", "customer", "currency"),
    *documents.LINE_FIELDS,
)


def rows(statement: Statement) -> Iterator[list[Any]]:
    """A list of values for each line, in the order of `COLUMNS`."""
    said = documents.said(statement)
    same = [statement.number, statement.kind, said["month"], said["customer"]["billing_name"], statement.currency]
    for line in statement.lines.order_by("position"):
        yield [*same, *(getattr(line, name) for name in documents.LINE_FIELDS)]


def make(statement: Statement) -> bytes:
    """The file."""
    lines = (csv_line(row) for row in rows(statement))
    return (BYTE_ORDER_MARK + csv_line(COLUMNS) + "".join(lines)).encode()
