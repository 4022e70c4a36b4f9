"""Sends saved reports by e-mail: each time of a schedule once to each person.

A periodic task sweeps schedules and deliveries, as it does for alerts (usage/alert_delivery.py): a mail that the mail
server took just before its worker died is sent again under the same Message-ID. After a pause of the workers, the last
time that was missed is made up for, and those before it are not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction

from keys.errors import Unusable, refused
from usage import alert_sending, moments, outbox
from usage.alert_sending import NotSent
from usage.reporting import mails, saved, schedules
from usage.saved_reports import ReportDelivery, ReportRecipient, ReportSchedule, SavedReport

logger = logging.getLogger(__name__)

# Schedules that one call of `plan` handles at most, and how long deliveries are kept.
AT_ONCE = 200
KEPT = timedelta(days=90)
MOST_PEOPLE = 50


def sweep(seconds: float = 240) -> None:
    """Plan what is due, then attempt deliveries until `seconds` have passed. Without a mail server, all of it waits."""
    if not settings.EMAIL_HOST:
        return
    deadline = time.monotonic() + seconds
    plan()
    while time.monotonic() < deadline and (delivery := outbox.claim(ReportDelivery)) is not None:
        attempt(delivery)


@transaction.atomic
def plan() -> int:
    """Create the deliveries of schedules that are due; return the number of schedules handled."""
    now = moments.now()
    due = ReportSchedule.objects.filter(next_at__lte=now).order_by("next_at", "pk")
    found = list(due.select_for_update(skip_locked=True)[:AT_ONCE])
    for schedule in found:
        last = schedules.latest(now, schedule.every, schedule.at, ZoneInfo(schedule.zone))
        ReportDelivery.objects.bulk_create(
            (
                ReportDelivery(report=schedule.report, person=person, due_at=last, created_at=now, next_at=now)
                for person in receivers(schedule)
            ),
            ignore_conflicts=True,
        )
        schedule.next_at = next_time(schedule, now)
        schedule.save(update_fields=["next_at"])
    ReportDelivery.objects.filter(created_at__lt=now - KEPT).delete()
    return len(found)


def receivers(schedule: ReportSchedule) -> list[Any]:
    """The people who get the report now: none while its owner may see no reports."""
    if not is_in_use(schedule.report):
        return []
    return [
        each.person for each in schedule.recipients.select_related("person") if may_get(each.person, schedule.report)
    ]


def is_in_use(report: SavedReport) -> bool:
    """Whether a report's owner is active and may still see reports."""
    return bool(report.owner.is_active and report.owner.has_perm(saved.SEE))


def may_get(person: Any, report: SavedReport) -> bool:
    """Whether a person can get the report: active, with an address, and it is one that they see."""
    return bool(person.is_active and person.email) and saved.seen_by(person).filter(pk=report.pk).exists()


def next_time(schedule: ReportSchedule, after: datetime) -> datetime:
    """When the schedule is due next."""
    return schedules.following(after, schedule.every, schedule.at, ZoneInfo(schedule.zone))


def attempt(delivery: ReportDelivery) -> None:
    """Try once, and record the result. A person who may not see the report any more gets nothing."""
    try:
        if is_in_use(delivery.report) and may_get(delivery.person, delivery.report):
            send(delivery)
        else:
            delivery.problem, delivery.given_up_at = "the person can't get the report any more", moments.now()
    except NotSent as error:
        if outbox.note_failure(delivery, str(error)):
            logger.error("the mail of report %s was given up after a day of attempts: %s", delivery.report_id, error)
    except Exception as error:
        # The mails of other reports don't wait for one that can't be made.
        logger.error("the mail of report %s can't be made (%s)", delivery.report_id, type(error).__name__)
        outbox.note_failure(delivery, "the report can't be made: the log of the gateway says why")
    else:
        if delivery.given_up_at is None:
            outbox.note_success(delivery, moments.now())
    delivery.save(update_fields=outbox.RESULT)


def send(delivery: ReportDelivery) -> None:
    """Hand the mail to the mail server.

    Raises:
        NotSent: the mail server refuses it.
    """
    report, person = delivery.report, delivery.person
    mail = mails.made(report, person, delivery.created_at)
    alert_sending.email(
        person.email,
        mail.subject,
        mail.lines,
        f"report-{report.pk}-{person.pk}-{int(delivery.due_at.timestamp())}",
        html=mail.html,
        files=mail.files,
    )


# Changes of schedules


@transaction.atomic
def set_schedule(user: Any, schedule: ReportSchedule, people: Iterable[Any]) -> ReportSchedule:
    """Save a new or changed schedule of a person's report, and who gets it.

    Raises:
        PermissionDenied: it is another person's report.
        Unusable: a value is wrong, or a person can't get the report.
    """
    if not saved.may_change(user, schedule.report):
        raise PermissionDenied
    chosen = {person.pk: person for person in people}
    if len(chosen) > MOST_PEOPLE:
        raise Unusable(f"a report goes to at most {MOST_PEOPLE} people")
    for person in chosen.values():
        if not may_get(person, schedule.report):
            raise Unusable(f"{person.get_username()} can't get this report: {why_not(person, schedule.report)}")
    schedule.next_at = moments.now()
    with refused():
        schedule.full_clean()
    schedule.next_at = next_time(schedule, moments.now())
    schedule.save()
    schedule.recipients.exclude(person__in=chosen).delete()
    known = set(schedule.recipients.values_list("person", flat=True))
    for pk in chosen.keys() - known:
        ReportRecipient.objects.create(schedule=schedule, person_id=pk)
    return schedule


def why_not(person: Any, report: SavedReport) -> str:
    """Why a person can't get a report."""
    if not person.is_active:
        return "the account is switched off"
    if not person.email:
        return "the account has no e-mail address"
    if not report.shared and report.owner_id != person.pk:
        return "the report isn't shared"
    return "this person may not see what the report is about"


def subscribe(person: Any, schedule: ReportSchedule) -> None:
    """Send the report to a person from the next time on.

    Raises:
        Unusable: the person can't get it.
    """
    if not may_get(person, schedule.report):
        raise Unusable(f"you can't get this report by e-mail: {why_not(person, schedule.report)}")
    if schedule.recipients.count() >= MOST_PEOPLE:
        raise Unusable(f"a report goes to at most {MOST_PEOPLE} people")
    ReportRecipient.objects.get_or_create(schedule=schedule, person=person)


def unsubscribe(person: Any, schedule: ReportSchedule) -> None:
    """Send the report to a person no more, also what already waits."""
    schedule.recipients.filter(person=person).delete()
    ReportDelivery.objects.filter(
        report=schedule.report_id, person=person, delivered_at=None, given_up_at=None
    ).delete()
