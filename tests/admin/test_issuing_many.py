"""Many virtual keys at once: names or CSV, a preview with the faults of each line, and one file with the keys."""

from __future__ import annotations

import csv
import io

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from administration.models import Person
from administration.role_names import Role
from administration.roles import giving
from keys.models import Customer, Team, VirtualKey
from tests.support.issued import make_key, make_provider_key, opened_by
from tests.support.issuing_form import ask_many, faults, text
from tests.support.owner import boss as boss
from tests.support.owner import own_secrets as own_secrets
from usage.models import Budget, KeyRules, Limit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def echo(own_secrets, db):
    make_provider_key()


def read(response):
    """The rows of the file, by their columns."""
    assert response["Content-Type"] == "text/csv; charset=utf-8", faults(response)
    content = response.content.decode()
    assert content.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(content.removeprefix("\ufeff"))))


def said(response):
    """What the preview says of each line that has a fault."""
    return {outcome.line.number: outcome.fault for outcome in response.context["outcomes"] if outcome.fault}


def test_pasted_names_are_previewed_and_then_issued_into_one_file(boss):
    pasted = {
        "new_customer": "Acme",
        "new_team": "Research",
        "names": "alice\r\n\r\n  bob \n",
        "budget": "5",
        "rpm": "6",
    }
    preview = ask_many(boss, **pasted)
    assert "2 virtual keys will be issued" in text(preview)
    assert not VirtualKey.objects.exists()
    assert not Customer.objects.exists()
    sent = dict(preview.context["sent"])
    answer = boss.post(reverse("admin:issue_many"), sent | {"confirmed": "Issue 2 keys"})
    rows = read(answer)
    assert [row["name"] for row in rows] == ["alice", "bob"]
    assert {row["team"] for row in rows} == {"Research"}
    assert [opened_by(row["virtual key"]).virtual_key.name for row in rows] == ["alice", "bob"]
    assert (Budget.objects.count(), Limit.objects.count(), LogEntry.objects.count()) == (2, 2, 2)
    assert "no-store" in answer["Cache-Control"]
    assert answer["Content-Disposition"].startswith('attachment; filename="virtual-keys-')


def test_the_file_is_answered_once(boss):
    form = {"new_customer": "Acme", "names": "alice", "confirmed": "yes"}
    plain = read(ask_many(boss, **form))[0]["virtual key"]
    again = ask_many(boss, **form)
    assert said(again) == {1: "Acme already has a virtual key “alice”: choose another name, or revoke that one first"}
    assert plain not in text(again)
    assert VirtualKey.objects.count() == 1


def test_the_preview_shows_no_secret_and_keeps_none(boss):
    page = text(ask_many(boss, new_customer="Acme", names="alice"))
    assert "sk-bf-" not in page
    assert "sk-bf-" not in "".join(str(vars(entry)) for entry in LogEntry.objects.all())


def test_columns_of_a_csv_file_go_before_the_forms_terms(boss):
    lines = [
        "Name;Owner;Budget;rpm;Expires;Labels",
        "alice;alice@example.com;20/week;60;2099-01-31;project=atlas, cost_centre=7",
        '"bob; the second";;;;;',
    ]
    file = SimpleUploadedFile("keys.csv", ("\ufeff" + "\r\n".join(lines)).encode())
    form = {"new_customer": "Acme", "budget": "5", "owner": "team@example.com", "labels": "project=none"}
    preview = ask_many(boss, **form, file=file)
    assert said(preview) == {}
    assert "project=atlas" in text(preview)
    answer = boss.post(reverse("admin:issue_many"), dict(preview.context["sent"]) | {"confirmed": "yes"})
    assert [row["owner"] for row in read(answer)] == ["alice@example.com", "team@example.com"]
    alice, bob = VirtualKey.objects.order_by("pk")
    assert (bob.name, bob.labels) == ("bob; the second", {"project": "none"})
    assert alice.labels == {"project": "atlas", "cost_centre": "7"}
    assert f"{alice.expires_at:%Y-%m-%d}" == "2099-01-31"
    assert (alice.budgets.get().period, int(bob.budgets.get().amount)) == ("week", 5)
    assert (alice.limits.get().rate, bob.limits.count()) == (60, 0)


def test_each_faulty_line_is_named_and_nothing_is_issued(boss):
    key, _ = make_key("taken")
    lines = [
        *(
            "name,budget,rpm,expires",
            "good,5/month,,",
            "taken,,,",
            ",,,",
            "good,,,",
            "b,5,,",
            "c,,0,",
            "d,,,2001-01-01",
        ),
        *("e,,,soon", 'f,"5', "g,,,,,,", "(passed through),,,", "x" * 201),
    ]
    for confirmed in ({}, {"confirmed": "yes"}):
        found = said(ask_many(boss, team=key.team_id, names="\n".join(lines), **confirmed))
        assert list(found) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
        assert "already has a virtual key" in found[3]
        assert "is empty" in found[4]
        assert found[5] == "it has the same name as line 2"
        assert found[6].startswith("budget: “5” isn't a budget")
        assert found[7].startswith("rpm: ")
        assert "in the past" in found[8]
        assert found[9].startswith("expires: ")
        assert "isn't a line of CSV" in found[10]
        assert "columns" in found[11]
        assert "reserves the name" in found[12]
        assert "longer than 200" in found[13]
        assert VirtualKey.objects.count() == 1


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ("", "there is no name"),
        (" \n \n", "there is no name"),
        ("name\n", "there is no name"),
        ("name,colour\nalice,red", "“colour”"),
        ("name,rpm,rpm\nalice,1,2", "one that is there twice"),
        ("\n".join(f"key {number}" for number in range(10_000)), "there are 10,000 keys: issue at most 200 at once"),
    ],
)
def test_a_text_that_can_not_be_read_is_a_fault_of_its_field(boss, names, fault):
    response = ask_many(boss, new_customer="Acme", names=names)
    assert list(faults(response)) == ["names"]
    assert fault in faults(response)["names"]
    assert not Customer.objects.exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"\xff\xfe\x00", "isn't text in UTF-8"), (b"a\n" * 300_000, "too long"), (b"", "there is no name")],
)
def test_a_file_that_can_not_be_read_is_a_fault_of_the_file_or_the_names(boss, content, fault):
    response = ask_many(boss, new_customer="Acme", file=SimpleUploadedFile("keys.csv", content))
    [(field, said_)] = faults(response).items()
    assert fault in said_
    assert field in ("file", "names")


def test_names_and_a_file_together_are_refused(boss):
    response = ask_many(boss, new_customer="Acme", names="a", file=SimpleUploadedFile("keys.csv", b"b"))
    assert "either" in faults(response)["file"]


def test_change_leads_back_to_the_form_with_what_was_typed(boss):
    sent = dict(ask_many(boss, new_customer="Acme", names="alice\nbob", rpm="77").context["sent"])
    page = boss.post(reverse("admin:issue_many"), sent | {"change": "Change"})
    form = page.context["form"]
    assert (form["names"].value(), form["rpm"].value()) == ("alice\nbob", "77")


def test_a_name_that_a_spreadsheet_would_run_is_text_in_the_file(boss):
    row = read(ask_many(boss, new_customer="Acme", names="=1+1", confirmed="yes"))[0]
    assert row["name"] == "'=1+1"
    assert VirtualKey.objects.get().name == "=1+1"


def test_a_team_admin_issues_many_under_the_ceilings_only(boss):
    key, _ = make_key("first")
    KeyRules.objects.create(team=key.team, most_budget=20, most_rpm=60)
    sales = Team.objects.create(customer=key.customer, name="Sales")
    admin = Person.objects.create_user("admin", is_staff=True)
    giving.give(None, admin, Role.TEAM_ADMIN, team=key.team)
    client = Client()
    client.force_login(User.objects.get(pk=admin.pk))
    lines = "name,budget\nwithin,10/month\nabove,30/month\nunsaid,"
    found = said(ask_many(client, team=key.team_id, names=lines, confirmed="yes"))
    assert list(found) == [3]
    assert "at most $20.00 a month" in found[3]
    assert "team" in faults(ask_many(client, team=sales.pk, names="x", confirmed="yes"))
    assert VirtualKey.objects.count() == 1
    read(ask_many(client, team=key.team_id, names="name,budget\nwithin,10/month\nunsaid,", confirmed="yes"))
    assert sorted(map(int, Budget.objects.values_list("amount", flat=True))) == [10, 20]


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [("owner", "o" * 201, "owner: the owner is longer"), ("labels", f"team={'x' * 201}", "labels: labels and their")],
)
def test_a_cell_that_is_too_long_is_a_fault_of_its_line(boss, column, value, fault):
    preview = ask_many(boss, new_customer="Acme", names=f"name,{column}\nci,{value}\nother,")
    assert list(said(preview)) == [2]
    assert said(preview)[2].startswith(fault)
