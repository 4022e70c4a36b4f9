"""What we export is read by the programs of others: each workbook by LibreOffice as by openpyxl, and FOCUS files by the
FinOps Foundation's validator. Both are looked for on the machine: docs/statements.md says how to get them."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import openpyxl
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from billing.formats import MADE
from billing.models import Statement
from tests.billing.test_formats import cast, issuer, statement
from usage import rollups
from usage.budgets import Budget, Period
from usage.reporting.asked import SHOWN
from usage.reporting.forecast_files import BUDGETS, PARAMETER

__all__ = ["cast", "issuer", "statement"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

# https://help.libreoffice.org/latest/en-US/text/shared/guide/csv_params.html: commas, quotes, UTF-8, cells as they are
# stored and not as they look, and all sheets.
ALL_SHEETS = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,-1"
RANGE = {"since": "2026-10-01", "until": "2026-10-31", "zone": "Europe/Berlin", "by": "team", "compare": "yes"}


def exported(boss: Client, path: str) -> bytes:
    """A download."""
    answer: Any = boss.get(path)
    assert answer.status_code == 200, path
    assert answer.headers["content-type"].endswith("spreadsheetml.sheet"), path
    content: bytes = answer.getvalue() if answer.streaming else answer.content
    return content


@pytest.fixture
def workbooks(statement: Statement, client: Client) -> dict[str, bytes]:
    """Every workbook that the product makes, by name."""
    rollups.roll_up()
    Budget.objects.create(customer=statement.customer, amount=Decimal("12.25"), period=Period.MONTH)
    client.force_login(User.objects.create_superuser("boss"))
    report = {f"usage-{show}": urlencode(RANGE | {"show": show, "format": "xlsx"}) for show in SHOWN}
    report["budgets"] = urlencode({"show": "forecast", PARAMETER: BUDGETS, "format": "xlsx"})
    made = {name: exported(client, f"/admin/usage/report/?{query}") for name, query in report.items()}
    since = (timezone.now() - timedelta(days=4_000)).date()
    made["calls"] = exported(client, f"/admin/calls/?format=xlsx&since={since}")
    made["statement"] = MADE["xlsx"][1](statement)
    return made


@pytest.fixture
def office() -> str:
    """LibreOffice's program."""
    found = shutil.which("soffice") or shutil.which("libreoffice")
    if found is None:
        pytest.skip("LibreOffice is missing (on Debian: apt-get install libreoffice-calc-nogui)")
    return found


def test_libreoffice_reads_in_each_workbook_what_openpyxl_reads(
    office: str, workbooks: dict[str, bytes], tmp_path: Path
) -> None:
    for name, content in workbooks.items():
        (tmp_path / f"{name}.xlsx").write_bytes(content)
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    files = [str(tmp_path / f"{name}.xlsx") for name in workbooks]
    command = [office, profile, "--headless", "--convert-to", ALL_SHEETS, "--outdir", str(tmp_path), *files]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    for name, content in workbooks.items():
        book = openpyxl.load_workbook(io.BytesIO(content))
        assert len(book.sheetnames) >= 2, name
        for sheet in book.sheetnames:
            with (tmp_path / f"{name}-{sheet}.csv").open(encoding="utf-8", newline="") as file:
                theirs = [[value for value in row if value] for row in csv.reader(file)]
            ours = [[each for each in row if each not in (None, "")] for row in book[sheet].iter_rows(values_only=True)]
            assert [len(row) for row in theirs] == [len(row) for row in ours], (name, sheet)
            assert list(texts(theirs, ours)) == [], (name, sheet)


def texts(theirs: list[list[str]], ours: list[list[Any]]) -> Iterator[tuple[str, Any]]:
    """The texts and numbers that differ. How a program writes a date or a truth is its own matter."""
    for row, other in zip(theirs, ours, strict=True):
        for text, value in zip(row, other, strict=True):
            if (isinstance(value, str) and text != value) or (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and abs(Decimal(text) - Decimal(str(value))) > abs(Decimal(str(value))) / 10**12
            ):
                yield text, value


# What the validator can't know of a CSV file, or asks of every row though the specification asks it of some.
LEFT = {
    "BillingAccountId-C-002-M": "an id of digits only is a text, which a CSV file can't say",
    "BillingAccountName-C-002-M": "a customer is called what it is called, not only in ASCII",
    "InvoiceId-C-004-C": "null only if there is no invoice: each row belongs to a statement",
    "BilledCost-C-005-C": "0 only if somebody else is paid, as in a marketplace",
}


def test_the_validator_of_focus_finds_no_fault(statement: Statement, tmp_path: Path) -> None:
    program = os.environ.get("FOCUS_VALIDATOR") or shutil.which("focus-validator")
    if program is None:
        pytest.skip("the FOCUS validator is missing: `make focus` installs it, if there is a Python 3.12")
    file = tmp_path / "focus.csv"
    file.write_bytes(MADE["focus.csv"][1](statement))
    # The rules of the version come with the validator, which looks for its currencies below its own folder.
    [home] = Path(program).resolve().parent.parent.glob("lib/python*/site-packages")
    options = ["--validate-version", "1.2.0.1", "--focus-dataset", "CostAndUsage", "--block-download"]
    command = [program, "--data-file", str(file), *options, "--show-violations"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=home)
    assert said.returncode == 0, said.stderr[-3000:]
    counted = re.search(r"Total: \d+ \| Pass: (\d+) \| Fail: (\d+)", said.stdout)
    assert counted, said.stdout[-3000:]
    assert int(counted[1]) > 100
    # A rule that ends so is the sum of others.
    failed = {rule for rule in re.findall(r"([\w-]+): FAIL ", said.stdout) if not rule.endswith("-000-M")}
    assert failed == set(LEFT), said.stdout[-6000:]
