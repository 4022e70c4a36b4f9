"""Tables of reports as files: streamed, with the filter and the zone in the file, and the digits of the ledger."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import openpyxl
import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from keys.audit.models import AuditEvent
from keys.errors import Unusable
from keys.table_files import FORMATS
from tests.support.report_cast import NOVEMBER, make_people
from usage.models import RollupState
from usage.questions import NotWholeYet
from usage.reporting import files, tables
from usage.reporting.saved import asked_by

pytestmark = pytest.mark.django_db(transaction=True)  # roll-ups have what is committed

BERLIN = NOVEMBER.replace("UTC", "Europe/Berlin")


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


def test_a_forecast_has_no_table_to_export(people):
    with pytest.raises(Unusable, match="forecast has no table to export"):
        exported(people.alice, f"{NOVEMBER}&show=forecast", "csv")
