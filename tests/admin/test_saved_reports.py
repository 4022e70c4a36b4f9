"""Saved reports on pages: who finds, changes, mails and deletes which."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.html import escape

from administration.role_names import Role
from administration.roles import giving
from tests.support.report_cast import NOVEMBER, mailed, make_people, save
from usage.saved_reports import ReportSchedule, SavedReport

LIST = "/admin/usage/saved-reports/"


@pytest.fixture(autouse=True)
def a_mail_server(settings):
    settings.EMAIL_HOST = "mail.example.com"


@pytest.fixture
def people(db):
    return make_people()


def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def page(person: User, path: str = "", status: int = 200) -> str:
    answer = browser(person).get(LIST + path)
    assert answer.status_code == status
    return answer.content.decode()


def send(person: User, path: str, status: int = 302, **values: Any) -> str:
    answer = browser(person).post(LIST + path, values)
    assert answer.status_code == status, answer.content.decode()
    return answer.content.decode()


def mails(*people: User, **values: Any) -> dict[str, Any]:
    return {"every": "month", "at": "06:30", "zone": "Asia/Kolkata", "people": [each.pk for each in people]} | values


def test_a_question_is_saved_from_its_url_and_last_month_stays_last_month(people):
    query = "range=last_month&zone=Europe/Berlin&by=team"
    assert "last month" in page(people.alice, f"add/?{query}")
    send(people.alice, f"add/?{query}", name="Monthly")
    report = SavedReport.objects.get()
    assert (report.owner, report.name, report.shared) == (people.alice, "Monthly", False)
    assert report.query == "range=last_month&zone=Europe%2FBerlin&every=whole&by=team"
    listed = page(people.alice)
    assert f'href="/admin/usage/report/?{escape(report.query)}"' in listed
    assert "Open the report" in page(people.alice, f"{report.pk}/")


def test_a_question_that_cannot_be_asked_is_not_saved(people):
    said = send(people.alice, "add/?since=2026-11-02&until=2026-11-01&zone=UTC", 400, name="Wrong")
    assert "The range ends before it starts" in said
    assert not SavedReport.objects.exists()


def test_two_reports_of_a_person_have_two_names(people):
    save(people.alice)
    said = send(people.alice, f"add/?{NOVEMBER}", 400, name=" Spending ")
    assert "You have a report of this name" in said
    send(people.bob, f"add/?{NOVEMBER}", name="Spending")


def test_only_its_owner_finds_a_report_that_is_not_shared(people):
    report = save(people.alice, name="Private plan")
    assert "Private plan" in page(people.alice)
    assert "Private plan" not in page(people.bob)
    page(people.bob, f"{report.pk}/", 404)


def test_a_shared_report_is_found_by_those_who_may_see_what_it_names(people):
    research = save(people.alice, f"{NOVEMBER}&team={people.keys.alice.team_id}", name="Of Research", shared=True)
    everything = save(people.alice, name="Of everything", shared=True)
    assert "Of Research" in page(people.bob)
    assert "Of Research" not in page(people.charlie)
    page(people.charlie, f"{research.pk}/", 404)
    for person in (people.bob, people.charlie):
        assert "Of everything" in page(person)
        assert "Shared by alice" in page(person, f"{everything.pk}/")


def test_only_its_owner_renames_and_shares_a_report(people):
    report = save(people.alice, shared=True)
    send(people.bob, f"{report.pk}/", 403, name="Mine now")
    send(people.alice, f"{report.pk}/", name="Renamed")
    report.refresh_from_db()
    assert (report.name, report.shared, report.query) == ("Renamed", False, save(people.bob).query)


def test_only_its_owner_or_an_owner_of_the_deployment_deletes_it(people):
    boss = User.objects.create_superuser("boss")
    shared, own = save(people.alice, shared=True), save(people.alice, name="Own")
    send(people.bob, f"{shared.pk}/delete/", 403)
    send(boss, f"{own.pk}/delete/", 404)
    assert "Others who find it lose it" in page(boss, f"{shared.pk}/delete/")
    send(boss, f"{shared.pk}/delete/")
    send(people.alice, f"{own.pk}/delete/")
    assert not SavedReport.objects.exists()


def test_its_owner_says_when_it_goes_by_mail_and_ends_it(people):
    report = save(people.alice)
    send(people.alice, f"{report.pk}/", **mails(people.alice))
    assert "on the first of each month at 06:30 (Asia/Kolkata)" in page(people.alice, f"{report.pk}/")
    send(people.alice, f"{report.pk}/", **mails(people.alice, every="week"))
    assert ReportSchedule.objects.get().every == "week"
    send(people.alice, f"{report.pk}/", **mails(every=""))
    assert not ReportSchedule.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"at": "25:00"}, "Enter a valid time"),
        ({"at": ""}, "Enter a time of day"),
        ({"zone": "Mars/Base"}, "Select a valid choice"),
        ({"every": "hour"}, "Select a valid choice"),
        ({"people": []}, "Choose who gets it"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(people, wrong, said):
    report = save(people.alice)
    assert said in send(people.alice, f"{report.pk}/", 400, **mails(people.alice, **wrong))
    assert not ReportSchedule.objects.exists()


def test_a_stranger_cannot_be_mailed(people):
    """Bob sees no other person, so he can choose only himself, also in a form that he has changed."""
    report = save(people.bob, shared=True)
    offered = re.findall(r'name="people" value="(\d+)"', page(people.bob, f"{report.pk}/"))
    assert offered == [str(people.bob.pk)]
    send(people.bob, f"{report.pk}/", 400, **mails(people.charlie))
    assert not ReportSchedule.objects.exists()


def test_an_owner_of_the_deployment_chooses_people_who_find_the_report(people):
    boss = User.objects.create_superuser("boss", "boss@example.com")
    report = save(boss, f"{NOVEMBER}&team={people.keys.alice.team_id}", shared=True)
    offered = re.findall(r'name="people" value="(\d+)"', page(boss, f"{report.pk}/"))
    assert {int(pk) for pk in offered} == {boss.pk, people.alice.pk, people.bob.pk}
    assert "bob@example.com" not in page(boss, f"{report.pk}/")


def test_a_reader_of_a_shared_report_subscribes_and_unsubscribes(people):
    report = save(people.alice, shared=True)
    schedule = mailed(report)
    assert "Send it to me, too" in page(people.bob, f"{report.pk}/")
    send(people.bob, f"{report.pk}/subscription/")
    assert schedule.recipients.filter(person=people.bob).exists()
    assert "Stop sending it to me" in page(people.bob, f"{report.pk}/")
    send(people.bob, f"{report.pk}/subscription/", stop="yes")
    assert not schedule.recipients.filter(person=people.bob).exists()


def test_without_a_mail_server_or_an_address_the_page_says_what_to_do(people, settings):
    settings.EMAIL_HOST = ""
    people.alice.email = ""
    people.alice.save()
    said = page(people.alice, f"{save(people.alice).pk}/")
    assert "sets EMAIL_HOST" in said
    assert "the account has no e-mail address" in said


def test_a_report_about_what_its_owner_lost_says_so(people):
    report = save(people.bob, f"{NOVEMBER}&team={people.keys.alice.team_id}")
    people.bob.grants.all().delete()
    page(people.bob, status=403)
    giving.give(None, people.bob, Role.FINANCE, customer=people.keys.charlie.customer)
    assert "This report can’t be opened any more" in page(people.bob, f"{report.pk}/")
