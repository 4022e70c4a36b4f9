"""Tables of reports as files: streamed, with the filter and the zone in the file, and the digits of the ledger."""

from __future__ import annotations

import csv
import io
import json
from calendar import monthrange
from datetime import timedelta
from decimal import Decimal

import openpyxl
import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory
from django.utils import timezone

from keys.audit.models import AuditEvent
from keys.table_files import FORMATS
from tests.support.ledger_rows import make_entry
from tests.support.report_cast import NOVEMBER, make_people
from usage import rollups
from usage.budgets import Budget, Period
from usage.models import RollupState
from usage.questions import NotWholeYet
from usage.reporting import files, forecast_files, tables
from usage.reporting.saved import asked_by

pytestmark = pytest.mark.django_db(transaction=True)  # roll-ups have what is committed

BERLIN = NOVEMBER.replace("UTC", "Europe/Berlin")
TITLES = {"Forecast": forecast_files.DAYS, "Budgets": forecast_files.RUNS_OUT}


@pytest.fixture
def people():
    return make_people()


def exported(user: User, query: str, kind: str) -> bytes:
    request = RequestFactory().get("/")
    request.user = user
    return files.download(request, asked_by(query, user), kind).getvalue()


def test_each_kind_of_file_has_the_same_rows_and_says_what_was_asked(people):
    query = f"{BERLIN}&every=day&by=team&models=claude-*&compare=yes"
    of_csv = list(csv.DictReader(io.StringIO(exported(people.alice, query, "csv").decode("utf-8-sig"))))
    of_json = json.loads(exported(people.alice, query, "json"))
    book = openpyxl.load_workbook(io.BytesIO(exported(people.alice, query, "xlsx")))
    titles, *rows = book["Usage"].iter_rows(values_only=True)
    of_xlsx = [dict(zip(titles, row, strict=True)) for row in rows]
    charges = {Decimal("3.000000000001"), Decimal(1)}
    assert {Decimal(row["Charge, USD"]) for row in of_csv} == charges
    assert {Decimal(row["charge"]) for row in of_json["rows"]} == charges
    assert {Decimal(row["Charge, USD (exact)"]) for row in of_xlsx} == charges
    assert {row["since"] for row in of_json["rows"]} == {row["From"] for row in of_xlsx}
    about = of_json["about"]
    assert about["range"] == "1 November 2026 to 30 November 2026"
    assert about["time_zone"] == "Europe/Berlin"
    assert about["filter"].startswith("By: day; Grouped by: Team; Models: claude-*")
    assert about.pop("made_at").endswith("Z")
    assert all(row.items() >= about.items() for row in of_csv)
    on_sheet = {
        str(name).lower().replace(" ", "_"): text for name, text in book["About"].iter_rows(2, values_only=True)
    }
    assert on_sheet.items() >= about.items()
    assert on_sheet.keys() - about.keys() == {"made_at"}


def test_each_export_is_in_the_audit_log_with_its_rows(people):
    exported(people.alice, f"{NOVEMBER}&by=team", "xlsx")
    ended, begun = AuditEvent.objects.filter(table_name="usage_rollup").order_by("-id")[:2]
    assert begun.changes["format"] == {"to": "xlsx"}
    assert begun.changes["query"] == {"to": "since=2026-11-01&until=2026-11-30&zone=UTC&every=whole&by=team"}
    assert ended.changes == {"rows": {"to": "2"}, "complete": {"to": "true"}}


def test_a_person_who_may_not_export_gets_no_file(people):
    seer = User.objects.create_user("seer")
    seer.user_permissions.add(Permission.objects.get(codename="view_rollup"))
    exported(seer, NOVEMBER, "csv")  # who could view could export, before there were roles
    people.bob.grants.update(role="member", team=None)
    with pytest.raises(PermissionDenied):
        exported(people.bob, NOVEMBER, "csv")


def test_a_person_exports_what_they_may_see(people):
    found = json.loads(exported(people.bob, f"{NOVEMBER}&by=customer", "json"))
    assert [(row["customer"], row["cost"]) for row in found["rows"]] == [("Ours", "3.000000000001")]


def test_what_cannot_be_asked_is_refused_before_the_file_begins(people):
    RollupState.objects.update(whole_since="2026-11-15T00:00:00Z")
    with pytest.raises(NotWholeYet):
        exported(people.alice, NOVEMBER, "csv")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_come_before_the_second_thousand_rows_is_read(people, monkeypatch, kind):
    asked = asked_by(f"{NOVEMBER}&by=model", people.alice)
    columns, read = tables.columns(asked, people.alice), []

    def rows(*_):
        for number in range(2500):
            read.append(number)
            yield tuple(number if column.kind in ("money", "count") else str(number) for column in columns)

    monkeypatch.setattr(tables, "rows", rows)
    pieces = FORMATS[kind].make(files.table(asked, people.alice), files.pages(asked, people.alice))
    assert next(pieces)
    assert len(read) <= 1000
    sizes = [len(read) for _ in pieces]
    assert sizes[0] <= 1001
    assert len(read) == 2500


def table_of(people, kind, sheet, table=""):
    """The rows of a forecast's file as texts."""
    request = RequestFactory().get("/", {"table": table} if table else {})
    request.user = people.alice
    made = files.download(request, asked_by("zone=UTC&show=forecast", people.alice), kind).getvalue()
    if kind == "csv":
        return list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"))))
    if kind == "json":
        found = json.loads(made)
        return [dict(zip(TITLES[sheet].values(), row.values(), strict=True)) for row in found["rows"]]
    titles, *rows = openpyxl.load_workbook(io.BytesIO(made))[sheet].iter_rows(values_only=True)
    return [dict(zip(titles, row, strict=True)) for row in rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_days_of_a_forecast_are_a_file(people, kind):
    earliest = timezone.now()
    make_entry(people.keys.alice, earliest - timedelta(days=40), cost=Decimal("56.5"))
    rollups.roll_up()
    found = table_of(people, kind, "Forecast")
    months = {f"{moment:%Y-%m}" for moment in (earliest, timezone.now())}
    [month] = {str(row["Day"])[:7] for row in found}
    assert month in months
    count = monthrange(*map(int, month.split("-")))[1]
    assert [str(row["Day"])[:10] for row in found] == [f"{month}-{number:02}" for number in range(1, count + 1)]
    assert all(Decimal(str(row["Expected, USD"])) >= 0 for row in found)


@pytest.mark.parametrize("kind", FORMATS)
def test_when_budgets_run_out_is_a_file(people, kind):
    budget = Budget.objects.create(customer=people.keys.alice.customer, amount=Decimal("12.25"), period=Period.MONTH)
    [row] = table_of(people, kind, "Budgets", "budgets")
    assert (str(row["Budget id"]), row["Owner"]) == (str(budget.pk), "customer Ours")
    assert row["Terms"] == "$12.25 a month"
    assert Decimal(str(row["Amount"])) == Decimal(str(row["Left"])) == Decimal("12.25")
    assert row["Runs out on (UTC)"]
