"""Files of tables: they have the same digits when programs read them, run nothing, and are made as they are read."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import workbooks
from keys.csv_lines import money
from keys.table_files import FORMATS, TableFile

ABOUT = {"filter": "model=claude-*", "time_zone": "Europe/Berlin", "made_at": "2026-11-30T09:00:00+01:00"}
FILE = TableFile("usage", ["day", "name", "calls", "cost"], ["cost"], ABOUT, "Usage")
ROWS: list[list[Any]] = [
    [date(2026, 11, 1), "Research", 3, Decimal("12345.000012345678")],
    [date(2026, 11, 2), "=1+1", 2**40, Decimal("-0.000000000001")],
    [date(2026, 11, 3), None, 0, None],
]
DIGITS = ["12345.000012345678", "-0.000000000001"]


def made(kind: str, file: TableFile = FILE, rows: list[list[Any]] = ROWS) -> bytes:
    return b"".join(FORMATS[kind].make(file, iter([rows[:1], [], rows[1:]])))


def sheets(content: bytes) -> dict[str, list[list[Any]]]:
    """The values of each sheet; a formula would be a value that begins with `=` and isn't a text."""
    book = openpyxl.load_workbook(io.BytesIO(content))
    found = {}
    for sheet in book.worksheets:
        assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)
        found[sheet.title] = [list(row) for row in sheet.iter_rows(values_only=True)]
    return found


def test_a_csv_has_the_digits_and_says_on_each_line_what_it_is_about():
    rows = list(csv.DictReader(io.StringIO(made("csv").decode("utf-8-sig"))))
    assert [row["cost"] for row in rows] == [*DIGITS, ""]
    assert [row["name"] for row in rows] == ["Research", "'=1+1", ""]
    assert all(row.items() >= ABOUT.items() for row in rows)
    assert list(rows[0]) == [*FILE.columns, *ABOUT]


def test_json_has_the_digits_as_texts():
    found = json.loads(made("json"))
    assert (found["about"], found["columns"]) == (ABOUT, FILE.columns)
    assert [row["cost"] for row in found["rows"]] == [*DIGITS, None]
    assert found["rows"][1] == {"day": "2026-11-02", "name": "=1+1", "calls": 2**40, "cost": "-0.000000000001"}
    assert json.loads(made("json", rows=[]))["rows"] == []


def test_a_workbook_has_numbers_and_their_exact_digits_beside_them():
    found = sheets(made("xlsx"))
    titles, *rows = found["Usage"]
    assert titles == ["day", "name", "calls", "cost", "cost_exact"]
    assert [row[4] for row in rows] == [*DIGITS, None]
    assert [row[3] for row in rows] == [*map(float, DIGITS), None]
    assert [row[1] for row in rows] == ["Research", "=1+1", None]
    assert [row[2] for row in rows] == [3, 2**40, 0]
    assert rows[0][0] == datetime(2026, 11, 1)
    assert found["About"][1:] == [
        ["Filter", "model=claude-*"],
        ["Time zone", "Europe/Berlin"],
        ["Made at", "2026-11-30T09:00:00+01:00"],
    ]


def test_a_number_with_more_digits_than_a_spreadsheet_keeps_becomes_a_text():
    file = TableFile("n", ["n"])
    assert sheets(made("xlsx", file, [[10**15 - 1], [10**15]]))["Rows"][1:] == [[10**15 - 1], [str(10**15)]]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**17), max_value=10**17)))
def test_every_amount_comes_back_with_the_same_digits(amounts):
    file = TableFile("n", ["n", "cost"], ["cost"])
    rows = [[number, amount] for number, amount in enumerate(amounts)]
    assert [Decimal(row[2]) for row in sheets(made("xlsx", file, rows))["Rows"][1:]] == amounts
    assert [Decimal(row["cost"]) for row in json.loads(made("json", file, rows))["rows"]] == amounts
    lines = list(csv.DictReader(io.StringIO(made("csv", file, rows).decode("utf-8-sig"))))
    assert [line["cost"] for line in lines] == [money(amount) for amount in amounts]


@given(st.text(max_size=40))
def test_every_text_stays_a_text(text):
    cell = sheets(made("xlsx", TableFile("t", ["n", "text"]), [[1, text], [2, ""]]))["Rows"][1][1] or ""
    said = workbooks.plain_text(text).replace("\r", "\n")
    # openpyxl leaves escapes of characters as they are written.
    assert cell.replace("_x005F_", "_") == said.replace("_x005F_", "_")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_come_before_the_second_thousand_rows_is_asked_for(kind):
    asked = []

    def pages():
        for number in range(3):
            asked.append(number)
            yield [[None, f"row {number}-{at}", at, Decimal(at)] for at in range(1000)]

    pieces = FORMATS[kind].make(FILE, pages())
    assert next(pieces)
    assert asked == []
    assert all(pieces)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("kind", FORMATS)
def test_memory_is_that_of_a_page_however_many_rows_there_are(kind):
    def most_memory(pages: int) -> int:
        tracemalloc.start()
        try:
            for _ in FORMATS[kind].make(
                FILE, ([[None, f"row {at}", at, Decimal(at)] for at in range(200)] for _ in range(pages))
            ):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most_memory(1)
    assert most_memory(40) < 1.5 * most_memory(4)


def test_rows_beyond_what_a_sheet_takes_go_to_the_next_one(monkeypatch):
    monkeypatch.setattr(workbooks, "MOST_ROWS", 3)
    file = TableFile("n", ["n"], title="Calls")
    found = sheets(made("xlsx", file, [[number] for number in range(5)]))
    assert found == {
        "Calls": [["n"], [0], [1]],
        "Calls 2": [["n"], [2], [3]],
        "Calls 3": [["n"], [4]],
        "About": [["About"]],
    }


def test_a_sheet_ends_before_it_needs_a_zip_that_some_programs_do_not_read(monkeypatch):
    monkeypatch.setattr(workbooks, "MOST_BYTES", 2000)
    content = made("xlsx", TableFile("n", ["n"]), [["x" * 500] for _ in range(9)])
    assert list(sheets(content)) == ["Rows", "Rows 2", "Rows 3", "About"]
    with zipfile.ZipFile(io.BytesIO(content)) as pack:
        assert pack.testzip() is None
        assert all(not entry.extra for entry in pack.infolist())


def test_columns_are_named_as_in_spreadsheets():
    assert [workbooks.column(at) for at in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_a_time_says_its_zone():
    rows = [[datetime(2026, 11, 1, 12, tzinfo=UTC)]]
    file = TableFile("t", ["at"])
    assert sheets(made("xlsx", file, rows))["Rows"][1] == ["2026-11-01T12:00:00+00:00"]
    assert b"2026-11-01T12:00:00+00:00" in made("csv", file, rows)
