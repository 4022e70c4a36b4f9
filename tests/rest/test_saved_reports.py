"""Saved reports for programs."""

from __future__ import annotations

import pytest

from tests.support.report_cast import NOVEMBER, mailed, make_people, save
from tests.support.rest import Program
from usage.saved_reports import SavedReport


@pytest.fixture
def people(db):
    return make_people()


def test_a_report_is_created_read_changed_and_removed(people):
    program = Program(people.alice, "saved_reports:write")
    made = program.post("saved-reports", {"name": "Monthly", "query": "range=last_month&zone=Asia/Kolkata&by=team"})
    assert made["query"] == "range=last_month&zone=Asia%2FKolkata&every=whole&by=team"
    assert (made["owner"], made["shared"], made["mailed"]) == ("alice", False, None)
    assert program.get("saved-reports")["data"] == [made]
    changed = program.patch(f"saved-reports/{made['id']}", {"shared": True})
    assert changed.json() == made | {"shared": True}
    assert program.ask("DELETE", f"saved-reports/{made['id']}").status_code == 204
    assert not SavedReport.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"query": "since=2026-11-02&until=2026-11-01&zone=UTC"}, "ends before it starts"),
        ({"query": "zone=Mars/Base"}, "zone"),
        ({"query": "by=moon"}, "by"),
        ({"name": "Spending"}, "You have a report of this name"),
        ({"name": ""}, "name"),
        ({"owner": "bob"}, "owner"),
    ],
)
def test_what_makes_no_sense_is_refused(people, wrong, said):
    save(people.alice)
    answer = Program(people.alice).ask("POST", "saved-reports", {"name": "New", "query": NOVEMBER} | wrong)
    assert answer.status_code == 400
    assert said in answer.content.decode()


def test_others_read_a_shared_report_and_do_not_change_it(people):
    report = save(people.alice, shared=True)
    own = save(people.bob, name="Own")
    program = Program(people.bob)
    assert {each["name"] for each in program.get("saved-reports")["data"]} == {"Spending", "Own"}
    assert [each["name"] for each in program.get("saved-reports?shared=true")["data"]] == ["Spending"]
    answer = program.patch(f"saved-reports/{report.pk}", {"name": "Mine now"})
    assert answer.status_code == 403
    assert "another person" in answer.json()["error"]["message"]
    assert program.ask("DELETE", f"saved-reports/{report.pk}").status_code == 403
    assert Program(people.alice).ask("GET", f"saved-reports/{own.pk}").status_code == 404


def test_it_says_how_often_a_report_is_mailed(people):
    report = save(people.alice)
    mailed(report, every="week")
    assert Program(people.alice).get(f"saved-reports/{report.pk}")["mailed"] == "week"


def test_a_token_needs_the_scope(people):
    program = Program(people.alice, "usage:read", "saved_reports:read")
    assert program.ask("GET", "saved-reports").status_code == 200
    assert program.ask("POST", "saved-reports", {"name": "New", "query": NOVEMBER}).status_code == 403
