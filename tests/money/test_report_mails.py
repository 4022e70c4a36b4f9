"""Saved reports that are sent by e-mail: once for each time and person, with what the person may see."""

from __future__ import annotations

import io
import threading
from datetime import timedelta
from decimal import Decimal

import openpyxl
import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.db import connection

from keys.audit.models import AuditEvent
from keys.errors import Unusable
from tests.support.report_cast import MORNING, NOVEMBER, mailed, make_people, save
from usage import moments, outbox, tasks
from usage.reporting import mailing, mails
from usage.saved_reports import ReportDelivery, ReportSchedule

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Roll-ups have what is committed.
counted = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock(monkeypatch):
    """The time, which tests move."""

    class Clock:
        now = MORNING

    monkeypatch.setattr(moments, "now", lambda: Clock.now)
    return Clock


@pytest.fixture(autouse=True)
def a_mail_server(settings):
    settings.EMAIL_HOST = "mail.example.com"


@pytest.fixture
def people(db):
    return make_people()


def to_whom() -> list[str]:
    found = [address for message in mail.outbox for address in message.to]
    mail.outbox.clear()
    return sorted(found)


def test_it_is_sent_once_at_its_time(people, clock):
    mailed(save(people.alice))
    tasks.mail_reports()
    assert to_whom() == []
    clock.now += HOUR
    tasks.mail_reports()
    tasks.mail_reports()
    assert to_whom() == ["alice@example.com"]
    clock.now += DAY
    tasks.mail_reports()
    assert to_whom() == ["alice@example.com"]


@pytest.mark.parametrize(("every", "sent"), [("day", 35), ("week", 5), ("month", 2)])
def test_it_is_sent_as_often_as_it_says(people, clock, every, sent):
    mailed(save(people.alice), every=every)
    for _ in range(35):
        clock.now += HOUR
        mailing.plan()
        clock.now += DAY - HOUR
    assert ReportDelivery.objects.count() == sent


def test_after_a_pause_of_ten_days_one_is_sent_and_not_ten(people, clock):
    mailed(save(people.alice))
    clock.now += 10 * DAY
    mailing.sweep()
    assert to_whom() == ["alice@example.com"]
    assert ReportDelivery.objects.get().due_at == MORNING + 9 * DAY + HOUR / 2
    assert ReportSchedule.objects.get().next_at == MORNING + 10 * DAY + HOUR / 2


@counted
def test_two_workers_send_it_once(clock):
    people = make_people()
    mailed(save(people.alice, shared=True), people.alice, people.bob)
    clock.now += HOUR
    both = threading.Barrier(2)

    def work():
        both.wait()
        mailing.sweep()
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert to_whom() == ["alice@example.com", "bob@example.com"]


def test_after_a_crash_it_is_sent_again_as_the_same_message(people, clock, monkeypatch):
    """The worker died when the mail server had the message, and before that was written down."""
    mailed(save(people.alice))
    clock.now += HOUR
    real = outbox.note_success

    def die(*_):
        raise SystemExit

    monkeypatch.setattr(outbox, "note_success", die)
    with pytest.raises(SystemExit):
        mailing.sweep()
    monkeypatch.setattr(outbox, "note_success", real)
    mailing.sweep()
    assert len(mail.outbox) == 1
    clock.now += outbox.LEASE
    mailing.sweep()
    mailing.sweep()
    assert len({message.extra_headers["Message-ID"] for message in mail.outbox}) == 1
    assert len(mail.outbox) == 2


def test_a_mail_server_that_fails_is_tried_again(people, clock, monkeypatch):
    mailed(save(people.alice))
    clock.now += HOUR
    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", fails)
    mailing.sweep()
    delivery = ReportDelivery.objects.get()
    assert delivery.problem == "the mail server refused the message (ConnectionRefusedError)"
    assert "alice@example.com" not in delivery.problem
    monkeypatch.undo()


def test_a_report_that_fails_keeps_no_other_from_being_sent(people, clock, monkeypatch):
    broken, whole = save(people.alice, name="broken"), save(people.alice, name="whole")
    mailed(broken)
    mailed(whole)
    clock.now += HOUR
    make = mails.made

    def break_one(report, *more):
        if report.pk == broken.pk:
            raise ZeroDivisionError("words of a prompt")
        return make(report, *more)

    monkeypatch.setattr(mails, "made", break_one)
    mailing.sweep()
    assert to_whom() == ["alice@example.com"]
    failed = ReportDelivery.objects.get(report=broken)
    assert failed.problem == "the report can't be made: the log of the gateway says why"
    clock.now += DAY
    mailing.sweep()
    failed.refresh_from_db()
    assert failed.given_up_at == clock.now


def fails(*_):
    raise ConnectionRefusedError("no answer for alice@example.com")


def test_without_a_mail_server_it_waits(people, clock, settings):
    settings.EMAIL_HOST = ""
    mailed(save(people.alice))
    clock.now += 3 * DAY
    mailing.sweep()
    assert (to_whom(), ReportDelivery.objects.count()) == ([], 0)
    settings.EMAIL_HOST = "mail.example.com"
    mailing.sweep()
    assert to_whom() == ["alice@example.com"]


@counted
def test_each_person_gets_what_they_may_see(people, clock):
    mailed(save(people.alice, f"{NOVEMBER}&by=team", shared=True), people.alice, people.bob, people.charlie)
    clock.now += HOUR
    mailing.sweep()
    said = {message.to[0].partition("@")[0]: message.body for message in mail.outbox}
    assert "Total" in said["alice"]
    assert "$4.00" in said["alice"]
    assert "Ours / Research" in said["alice"]
    assert "$3.00" in said["bob"]
    assert "$4.00" not in said["bob"]
    assert "$1.00" in said["charlie"]
    assert "Research" not in said["charlie"]


@counted
def test_the_whole_table_is_attached_with_the_same_digits_for_those_who_may_export(people, clock, settings):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"public_url": "https://bursar.example.com"})
    report = save(people.alice, f"{NOVEMBER}&by=team", name="=Spending <b>")
    mailed(report)
    clock.now += HOUR
    mailing.sweep()
    [message] = mail.outbox
    link = f"https://bursar.example.com/admin/usage/saved-reports/{report.pk}/"
    assert isinstance(message, EmailMultiAlternatives)
    html = str(message.alternatives[0][0])
    assert link in str(message.body)
    assert f'href="{link}"' in html
    assert "=Spending &lt;b&gt;" in html
    [(name, content, _)] = message.attachments
    assert name == "usage-2026-11-01-2026-11-30.xlsx"
    book = openpyxl.load_workbook(io.BytesIO(content))
    titles, *rows = book["Usage"].iter_rows(values_only=True)
    amounts = [Decimal(dict(zip(titles, row, strict=True))["Charge, USD (exact)"]) for row in rows]
    assert sorted(amounts) == [Decimal(1), Decimal("3.000000000001")]
    about = dict(book["About"].iter_rows(min_row=2, values_only=True))
    assert (about["Time zone"], about["Range"]) == ("UTC", "1 November 2026 to 30 November 2026")


@counted
def test_a_mail_has_at_most_fifty_lines_the_most_expensive_first(people, clock, monkeypatch):
    monkeypatch.setattr(mails, "LINES", 1)
    mailed(save(people.alice, f"{NOVEMBER}&by=customer"))
    clock.now += HOUR
    mailing.sweep()
    [message] = mail.outbox
    assert "Ours" in message.body
    assert "Theirs" not in message.body
    assert "The first 1 lines. The page and the attached file have all." in message.body
    assert "$4.00" in message.body


@counted
def test_a_large_table_is_not_attached(people, clock, monkeypatch):
    monkeypatch.setattr(mails, "MOST_ROWS", 1)
    mailed(save(people.alice, f"{NOVEMBER}&by=customer"))
    clock.now += HOUR
    mailing.sweep()
    [message] = mail.outbox
    assert message.attachments == []


@pytest.mark.parametrize("why", ["inactive", "without a role", "unshared", "owner inactive"])
def test_it_stops_for_a_person_who_may_not_see_it_any_more(people, clock, why):
    report = save(people.alice, shared=True)
    mailed(report, people.bob)
    clock.now += HOUR
    mailing.plan()
    match why:
        case "inactive":
            people.bob.is_active = False
            people.bob.save()
        case "without a role":
            people.bob.grants.all().delete()
        case "unshared":
            report.shared = False
            report.save()
        case "owner inactive":
            people.alice.is_active = False
            people.alice.save()
    mailing.sweep()
    assert to_whom() == []
    assert ReportDelivery.objects.get().problem == "the person can't get the report any more"
    clock.now += DAY
    mailing.sweep()
    assert (to_whom(), ReportDelivery.objects.count()) == ([], 1)


def test_only_people_who_find_the_report_can_get_it(people):
    with pytest.raises(Unusable, match="bob can't get this report: the report isn't shared"):
        mailed(save(people.alice), people.bob)
    about_research = save(people.alice, f"{NOVEMBER}&team={people.keys.alice.team_id}", name="Research", shared=True)
    with pytest.raises(Unusable, match="charlie can't get this report: this person may not see what the report is"):
        mailed(about_research, people.charlie)
    assert not ReportSchedule.objects.exists()


def test_a_person_who_stops_it_gets_nothing_that_still_waits(people, clock):
    schedule = mailed(save(people.alice, shared=True), people.alice, people.bob)
    clock.now += HOUR
    mailing.plan()
    mailing.unsubscribe(people.bob, schedule)
    mailing.sweep()
    assert to_whom() == ["alice@example.com"]


def test_the_audit_log_has_changes_without_addresses_and_questions(people):
    report = save(people.alice, f"{NOVEMBER}&project=secret-plan")
    mailed(report)
    events = AuditEvent.objects.filter(table_name__in=["usage_savedreport", "usage_reportschedule"])
    assert {event.table_name for event in events} == {"usage_savedreport", "usage_reportschedule"}
    assert events.get(table_name="usage_savedreport").changes["name"] == {"to": "Spending"}
    said = str([event.changes for event in AuditEvent.objects.filter(table_name__startswith="usage_report")])
    assert "example.com" not in said
    assert "secret-plan" not in str([event.changes for event in events])


def test_a_report_that_cannot_be_made_says_why(people, clock):
    report = save(people.alice, f"{NOVEMBER}&every=hour")
    type(report).objects.update(query="since=2026-11-02&until=2026-11-01&zone=UTC")
    mailed(report)
    clock.now += HOUR
    mailing.sweep()
    assert "The report can't be made: The range ends before it starts" in mail.outbox[0].body


@counted
@pytest.mark.parametrize(
    ("show", "said"),
    [
        ("money", "$3.00"),
        ("errors", "Ours / Research"),
        ("movers", "$3.00"),
        ("forecast", "a forecast is on its page only"),
    ],
)
def test_each_kind_of_report_can_be_mailed(people, clock, show, said):
    mailed(save(people.alice, f"{NOVEMBER}&by=team&show={show}"))
    clock.now += HOUR
    mailing.sweep()
    assert said.lower() in mail.outbox[0].body.lower()


def test_deliveries_are_kept_for_ninety_days(people, clock):
    mailed(save(people.alice), every="month")
    clock.now += HOUR
    mailing.sweep()
    clock.now += 91 * DAY
    mailing.sweep()
    assert [delivery.created_at for delivery in ReportDelivery.objects.all()] == [clock.now]
