"""*Send a test*: what a target of alerts gets, what its sender learns, and what the audit log keeps."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import socket

import pytest
from django.core import mail
from django.urls import reverse

from keys import sign_in
from keys.audit.models import AuditEvent
from tests.support.alert_cast import SECRET, tell
from tests.support.alert_cast import a_deployment as a_deployment
from tests.support.alert_cast import admin as admin
from tests.support.alert_cast import hook as hook
from tests.support.fake_provider import whole
from tests.support.rest import boss as boss
from tests.support.rest import program as program
from usage.models import Delivery

pytestmark = pytest.mark.django_db


def send(admin, target):
    """What the page says after the button was pressed."""
    answer = admin.post(reverse("admin:usage_alerttarget_test", args=[target.pk]), follow=True)
    assert answer.redirect_chain == [(reverse("admin:usage_alerttarget_change", args=[target.pk]), 302)]
    assert SECRET not in answer.content.decode()
    (said,) = [str(message) for message in answer.context["messages"]]
    event = AuditEvent.objects.filter(table_name="usage_alerttarget", object=str(target.pk)).latest("id")
    assert event.action == "tested"
    assert event.changes == {"result": {"to": said}}
    return said


def test_a_webhook_gets_a_signed_test_and_no_delivery(admin, hook):
    target = tell(f"{hook.url}/budgets")
    page = admin.get(reverse("admin:usage_alerttarget_change", args=[target.pk])).content.decode()
    assert "Send a test" in page
    assert send(admin, target) == "The webhook took the test."
    (seen,) = hook.seen
    said = json.loads(seen.body)
    assert (said["type"], seen.values("webhook-id")) == ("test", [said["id"]])
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    (at,), (given,) = seen.values("webhook-timestamp"), seen.values("webhook-signature")
    expected = hmac.new(key, f"{said['id']}.{at}.".encode() + seen.body, hashlib.sha256).digest()
    assert given == "v1," + base64.b64encode(expected).decode()
    assert not Delivery.objects.exists()


def test_an_address_is_not_flooded_with_tests(admin, settings):
    settings.EMAIL_HOST = "mail.example.com"
    targets = [tell(address, channel="email") for address in ("someone@example.com", "Someone@example.com")]
    said = [send(admin, targets[number % 2]) for number in range(sign_in.TESTS.failures + 1)]
    assert said[-1] == "The test was not sent: this address has just got many. Try again in a minute."
    assert len(mail.outbox) == sign_in.TESTS.failures
    assert send(admin, tell("other@example.com", channel="email")).startswith("The mail server took the test.")


FAILED = "The test failed. The log of the gateway says why."


def test_an_answer_and_a_closed_port_and_a_private_address_look_alike(admin, hook, settings, caplog):
    """People who may add targets must not learn what listens in the deployment's network."""
    target = tell(hook.url, active=False)
    for status in (200 + 103, 403, 500):
        hook.answer = whole(status, b"the words of a stranger")
        assert send(admin, target) == FAILED
        assert f"the webhook answered {status}" in caplog.text
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert send(admin, tell(f"http://127.0.0.1:{closed.getsockname()[1]}/")) == FAILED
    seen = len(hook.seen)
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"allowed_private_hosts": []})
    assert send(admin, target) == FAILED
    assert len(hook.seen) == seen, "it passes the same guard as alerts"
    assert "its address is private" in caplog.text


def test_an_email_goes_to_the_address_or_the_page_says_why_not(admin, settings, monkeypatch):
    target = tell("finance@example.com", channel="email")
    assert send(admin, target) == "The mail server took the test. Look whether it arrives."
    (message,) = mail.outbox
    assert (message.to, message.subject) == (["finance@example.com"], "A test of the alerts of Bursar")

    def refuse(*_: object) -> None:
        raise smtplib.SMTPRecipientsRefused({})

    monkeypatch.setattr(mail.EmailMessage, "send", refuse)
    assert "the mail server refused the message (SMTPRecipientsRefused)" in send(admin, target)
    settings.EMAIL_HOST = ""
    assert send(admin, target) == "The test was not sent: no mail server is configured: set EMAIL_HOST."


def test_a_program_sends_a_test_too(program, hook):
    target = tell(hook.url)
    path = f"alert-targets/{target.pk}/test"
    assert program.post(path) == {"delivered": True, "message": "The webhook took the test."}
    event = AuditEvent.objects.filter(table_name="usage_alerttarget", action="tested").get()
    assert event.actor_kind == "token"
    hook.answer = whole(500, SECRET.encode())
    assert program.post(path) == {"delivered": False, "message": FAILED}
