"""Requests that we never sent raise one alert for each provider key and day."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reconciliation import running
from reconciliation.reading import Run
from tests.support.reported import MONTH, Organisation, at, moment
from usage import alert_words
from usage.alerts import Alert
from usage.models import Hold

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _soon_after(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is early in the month: fewer days are read."""
    moment(monkeypatch, at(9, 7))


def read(acme: Organisation) -> None:
    assert running.run(acme.admin_key, Run(since=MONTH.date())) == ""


def test_other_use_of_a_key_raises_one_alert_a_day(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.both(at(3, 9))
    acme.counted(at(3, 9), requests=4)
    acme.counted(at(3, 10), requests=2)
    acme.counted(at(4, 10), requests=1)
    acme.both(at(5, 10))
    read(acme)
    alerts = list(Alert.objects.filter(provider_key=acme.key).order_by("start"))
    assert [(row.about, int(row.spent), int(row.amount), int(row.needed or 0)) for row in alerts] == [
        ("unsent_requests", 7, 1, 6),
        ("unsent_requests", 1, 0, 1),
    ]
    monkeypatch.setattr("django.utils.timezone.now", lambda now=timezone.now: now() + timedelta(hours=25))
    read(acme)
    assert Alert.objects.count() == 2
    said = alert_words.described(alerts[0])
    assert (said["type"], said["day"], said["unsent_requests"]) == ("provider_key.unsent_requests", "2026-11-03", 6)
    subject, lines = alert_words.in_words(alerts[0])
    assert "is used elsewhere" in subject
    assert "7 requests" in lines[0]
    assert str(alerts[0]).startswith("requests on provider key")


def test_a_call_that_crosses_an_hour_is_no_leak(acme: Organisation) -> None:
    acme.sent(at(3, 9, 59, 59), ended_at=at(3, 10, 0, 5))
    acme.counted(at(3, 10))
    read(acme)
    assert not Alert.objects.exists()


def test_a_call_in_progress_and_a_batch_are_no_leak(acme: Organisation) -> None:
    acme.counted(at(4, 9), service_tier="batch", requests=50)
    acme.counted(at(3, 9))
    numbers = ("ceiling", "input_tokens", "input_cost", "max_tokens", "output_price", "credential")
    owner = {"virtual_key": acme.cast.alice, "team": acme.cast.alice.team, "customer": acme.cast.alice.customer}
    hold = Hold.objects.create(
        **owner, **dict.fromkeys(numbers, 1), admitted_at=at(3, 9), stream=False, provider_key=acme.key.pk
    )
    read(acme)
    assert not Alert.objects.exists()
    hold.delete()


def test_an_hour_that_has_just_ended_may_still_be_settled(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: at(3, 10, 30))
    acme.counted(at(3, 9))
    acme.reports.refreshed_at = at(3, 10)
    read(acme)
    assert not Alert.objects.exists()
