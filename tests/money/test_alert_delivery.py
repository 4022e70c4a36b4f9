"""Alerts that can't be delivered at once: tried again, given up, and by whom they may be received."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from tests.support.admin_forms import change
from tests.support.alert_cast import SECRET, due, pass_threshold, tell
from tests.support.alert_cast import a_deployment as a_deployment
from tests.support.alert_cast import cast as cast
from tests.support.alert_cast import hook as hook
from tests.support.dripping import dripping
from tests.support.fake_provider import whole
from usage import alert_delivery, alert_sending, outbox, saved_addresses, tasks
from usage.models import AlertTarget, Budget, Delivery

pytestmark = pytest.mark.django_db


def test_a_failed_delivery_is_retried_with_growing_pauses(cast, hook):
    hook.answer = whole(500, b"no")
    tell(hook.url)
    alert = pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    pauses = []
    for _ in range(3):
        before = timezone.now()
        tasks.deliver_alerts()
        tasks.deliver_alerts()
        delivery = Delivery.objects.get()
        pauses.append(round((delivery.next_at - before).total_seconds() / 30))
        due()
    assert (len(hook.seen), delivery.attempts, delivery.problem) == (3, 3, "failed")
    assert pauses == [1, 2, 4]
    hook.answer = whole(200, b"ok")
    tasks.deliver_alerts()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.problem) == ("delivered", "")
    assert {seen.values("webhook-id")[0] for seen in hook.seen} == {f"alert_{alert.pk}"}
    assert outbox.pause(1000) == timedelta(hours=1)


def test_it_is_given_up_after_a_day_and_can_be_tried_again(cast, hook, client):
    hook.answer = whole(500, b"no")
    tell(hook.url)
    alert = pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    due(created_at=timezone.now() - timedelta(days=1))
    tasks.deliver_alerts()
    delivery = Delivery.objects.get()
    alert.refresh_from_db()
    assert (delivery.state, alert.delivered_at) == ("given up", None)
    due()
    tasks.deliver_alerts()
    assert len(hook.seen) == 2
    hook.answer = whole(200, b"ok")
    client.force_login(User.objects.create_superuser("admin"))
    address = reverse("admin:usage_delivery_changelist")
    assert b"failed" in client.get(address, {"state": "given up"}).content
    client.post(address, {"action": "retry_now", "_selected_action": delivery.pk})
    tasks.deliver_alerts()
    delivery.refresh_from_db()
    alert.refresh_from_db()
    assert (delivery.state, bool(alert.delivered_at)) == ("delivered", True)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/",
        "http://no.such.host.invalid/",
        "http://[::1/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
    ],
)
def test_an_unreachable_target_delays_no_other_target(cast, address):
    tell(address)
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert len(mail.outbox) == 1
    assert Delivery.objects.get(target__channel="webhook").problem == "failed"


def test_a_webhook_that_answers_a_byte_at_a_time_keeps_no_other_alert_waiting(cast, monkeypatch):
    monkeypatch.setattr(alert_sending, "ALL_SECONDS", 0.5, raising=False)
    with dripping() as url:
        tell(url)
        tell("finance@example.com", channel="email")
        pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
        tasks.deliver_alerts()
    assert len(mail.outbox) == 1
    assert Delivery.objects.get(target__channel="webhook").problem == "failed"


def test_a_redirect_is_not_followed(cast, hook):
    hook.answer = whole(307, b"", ("location", f"{hook.url}/elsewhere"))
    tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert len(hook.seen) == 1
    assert Delivery.objects.get().problem == "failed"


def test_a_webhook_goes_to_private_addresses_by_leave_or_where_it_went_before(cast, hook, settings, client):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"allowed_private_hosts": []})
    target = tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert not hook.seen
    AlertTarget.objects.update(predates_address_checks=True)
    due()
    tasks.deliver_alerts()
    assert len(hook.seen) == 1
    assert saved_addresses.uncovered() == [
        "webhook (127.0.0.1): its address is private: ALLOWED_PRIVATE_HOSTS must name its host or network. It is "
        "still used until its address is changed, because it was saved before addresses were checked."
    ]

    # Once it is changed, it is one like all others.
    client.force_login(User.objects.create_superuser("admin"))
    page = reverse("admin:usage_alerttarget_change", args=[target.pk])
    form = {"channel": "webhook", "address": f"{hook.url}/other", "secret": SECRET, "active": "on"}
    assert b"its address is private" in change(client, page, form).content
    assert change(client, page, form | {"address": hook.url}).status_code == 302
    target.refresh_from_db()
    assert target.predates_address_checks
    assert change(client, page, form | {"address": "https://8.8.8.8/"}).status_code == 302
    target.refresh_from_db()
    assert not target.predates_address_checks


def test_without_a_mail_server_it_says_so(cast, settings):
    settings.EMAIL_HOST = ""
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert not mail.outbox
    assert "EMAIL_HOST" in Delivery.objects.get().problem


def test_a_target_that_was_switched_off_meanwhile_gets_no_delivery(cast, hook):
    target = tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    alert_delivery.plan()
    AlertTarget.objects.filter(pk=target.pk).update(active=False)
    tasks.deliver_alerts()
    assert not hook.seen
    assert "switched off" in Delivery.objects.get().problem


def test_a_delivery_that_another_worker_sends_is_left_alone(cast, hook):
    tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    alert_delivery.plan()
    assert outbox.claim(Delivery)
    assert outbox.claim(Delivery) is None
    due()
    assert outbox.claim(Delivery)
