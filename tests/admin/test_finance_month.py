"""Finance's month in a real browser: the last month by team in Berlin's time, compared, a strange number down to its
calls, reconciled, closed, its PDF and its journal. `make pictures` keeps each step's look, for docs/finance-month.md.

It is the last month by Berlin's clock, whenever and wherever the test runs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal

import pytest
import typst
from django.db.models import Count, Sum
from django.utils import timezone

from administration.role_names import Role
from administration.usage_report import words
from billing import documents, months
from billing.formats import pdf
from billing.models import Statement, StatementFile
from tests.admin.test_page_widths import styled
from tests.support import axe
from tests.support.browser import Browser, Window
from tests.support.closing_month import BERLIN, WRONG_CALLS, WRONG_KEY, Books, books
from tests.support.company import make_person
from tests.support.gateway import Web
from tests.support.ledger_rows import empty_ledger
from tests.support.walk import Walk
from usage.models import LedgerEntry

__all__ = ["styled"]
REPORT = "[aria-label='The report']"
LINES = f"{REPORT} tbody tr"


@pytest.fixture
def site(styled: Web) -> Iterator[Web]:
    """A gateway that serves the files of its pages."""
    yield styled
    empty_ledger()


@pytest.fixture
def chromium(running_chromium: Browser) -> Iterator[Window]:
    """A browser in Berlin."""
    with running_chromium.window(timezone_id=BERLIN.key) as window:
        yield window


@pytest.fixture
def made(site: Web) -> Iterator[Books]:
    with books() as found:
        yield found


def look(walk: Walk, title: str, part: str = "body") -> None:
    """The end of a step: nothing failed, and nothing keeps people from using the page."""
    for colours in ("light", "dark"):
        walk.window.paint(colours)
        assert axe.faults(walk.window) == [], f"{title}, {colours}"
    walk.window.paint("light")
    walk.step(title, part)


def test_finance_closes_the_last_month(chromium: Window, site: Web, made: Books) -> None:
    check_clock(made)
    make_person("bella", Role.BILLING_ADMIN)
    walk = Walk(chromium, site, "month")
    walk.sign_in("bella")

    walk.go("Usage")
    ask_for_the_last_month(walk, made)
    look(walk, "by-team")
    walk.press("Top movers")
    assert "Northwind / Platform" in walk.text(f"{LINES}:nth-child(2)")
    look(walk, "movers")

    walk.press("Usage", within=".report-tabs")
    walk.press("Northwind / Platform", within=REPORT)
    walk.choose("By", "day")
    walk.press("Show", "button")
    look(walk, "strange-day")
    day = words.period(datetime.combine(made.wrong_day, time(), BERLIN), "day", BERLIN)
    row = f"{LINES}:has(th:text-is('{day}'))"
    assert walk.text(f"{row} td:first-of-type") == str(WRONG_CALLS + 1)
    walk.press(str(WRONG_CALLS + 1), within=row)
    assert walk.count("table.calls tbody tr") > 40
    look(walk, "calls")
    walk.press(walk.text("table.calls tbody tr:first-child a"), within="table.calls tbody tr:first-child")
    assert WRONG_KEY in walk.text(".facts >> nth=0")
    look(walk, "call")

    open_statements(walk, made)
    look(walk, "statements")
    walk.press("Northwind")
    draft = walk.text("#content h2 >> nth=0")
    look(walk, "draft")
    walk.press("Providers’ reports of this month")
    assert f"{made.month:%B %Y} (UTC)" in walk.text()
    look(walk, "reconciliation")
    walk.press("anthropic main")
    whole = walk.text("table.plain >> nth=0")
    assert Decimal(re.findall(r"Unexplained\s.*\$([\d.]+)", whole)[0]) == 0
    look(walk, "causes")

    open_statements(walk, made)
    walk.press("Northwind")
    walk.press(f"Close {made.month:%B %Y}", "button")
    assert f"{made.month:%B %Y} in Europe/Berlin" in walk.text(".facts >> nth=0")
    look(walk, "closed")
    statement = Statement.objects.get(customer=made.customer, month=made.month)
    assert walk.text(".facts .large") == draft
    assert Decimal(draft.removesuffix(" EUR")) == statement.total
    check_files(walk, statement)
    walk.press("Compare it with its hash, its lines, its files, the document before and the ledger")
    assert "Yes: its hash, its lines" in walk.text()
    look(walk, "verified")
    walk.paper("pdf", sheet(statement))


def ask_for_the_last_month(walk: Walk, made: Books) -> None:
    """The last month by team, beside the one before; the file has the same."""
    walk.choose("Range", "own dates" if made.is_soon_over else "last month")
    if made.is_soon_over:
        walk.fill("From", f"{made.month}")
        walk.fill("To", f"{months.following(made.month) - timedelta(days=1)}")
    walk.choose("By", "the whole range")
    walk.tick("Team")
    walk.tick("Compare with the period before")
    walk.press("Show", "button")
    asked = walk.text(".asked")
    for said in (f"1 {made.month:%B %Y} to ", f"Compared with: 1 {made.earlier:%B %Y} to ", BERLIN.key):
        assert said in asked
    lines = list(csv.DictReader(io.StringIO(walk.download("Export as CSV"))))
    found = {line["Team"]: (int(line["Calls"]), Decimal(line["Charge, USD"])) for line in lines}
    assert found == {team: sums(made, team) for team in made.teams}


def open_statements(walk: Walk, made: Books) -> None:
    """The list of the last month, which it begins with."""
    walk.go("Billing")
    if made.is_soon_over:
        walk.choose("Month", f"{made.month:%B %Y}")
        walk.press("Show", "button")
    assert walk.value("Month") == f"{made.month:%Y-%m}"


def sums(made: Books, team: str) -> tuple[int, Decimal]:
    """The calls of a team in the last month by Berlin's clock, and their USD, by the ledger."""
    since, until = months.start(made.month, BERLIN.key), months.end(made.month, BERLIN.key)
    rows = LedgerEntry.objects.filter(team=made.teams[team], admitted_at__gte=since, admitted_at__lt=until)
    found = rows.aggregate(calls=Count("pk"), cost=Sum("cost"))
    return found["calls"], found["cost"]


def check_files(walk: Walk, statement: Statement) -> None:
    """The PDF is the one that was made at closing, and the journal balances."""
    found = walk.file("PDF")
    assert found.startswith(b"%PDF-")
    assert hashlib.sha256(found).hexdigest() == StatementFile.objects.get(statement=statement).sha256
    entries = list(csv.DictReader(io.StringIO(walk.download("Journal"))))
    debit, credit = (sum(Decimal(each[side] or 0) for each in entries) for side in ("debit", "credit"))
    assert debit == credit == statement.total
    assert {each["cost_centre"] for each in entries if each["debit"]} == {"4100", "4200"}


def sheet(statement: Statement) -> bytes:
    """How the first page of the PDF looks."""
    said = json.loads(documents.stored(statement))
    data = json.dumps(pdf.described(said, statement.hash))
    made: bytes | list[bytes] = typst.compile(
        pdf.SOURCE, root=pdf.SOURCE.parent, sys_inputs={"data": data}, format="png", ppi=110
    )
    return made if isinstance(made, bytes) else made[0]


def check_clock(made: Books) -> None:
    """The month is the last one by Berlin's clock: its first call is of another month by UTC."""
    first = LedgerEntry.objects.filter(admitted_at__gte=months.start(made.month, BERLIN.key)).order_by("admitted_at")[0]
    assert first.admitted_at.astimezone(BERLIN).replace(tzinfo=None) == datetime.combine(made.month, time(0, 20))
    assert first.admitted_at.month != made.month.month
    assert made.is_soon_over or months.following(made.month) == timezone.now().astimezone(BERLIN).date().replace(day=1)
