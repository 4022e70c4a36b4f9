"""Sends a message to one target of alerts, or a report to a person: by e-mail, or by a webhook that is signed as
https://www.standardwebhooks.com says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import smtplib
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from keys import destinations, guarded_http, keyring, sign_in
from keys.audit.notes import note
from keys.destinations import Forbidden
from keys.product import NAME
from usage import moments
from usage.alerts import AlertTarget, Channel

logger = logging.getLogger(__name__)

# The most time of a webhook request: of each step, and of all.
SECONDS, ALL_SECONDS = 10.0, 20.0
TOO_MANY_TESTS = "The test was not sent: this address has just got many. Try again in a minute."


class NotSent(Exception):
    """The message was not sent. The text says why, for the log and for people who may change the target."""


@dataclass(frozen=True, slots=True)
class Tested:
    """The result of a test message.

    Attributes:
        said: a sentence for the person who sent it. Of a webhook it says no more than that it was delivered or failed:
            people who may add targets must not learn what answers at an address.
    """

    delivered: bool
    said: str


def send_test(target: AlertTarget) -> Tested:
    """Send a test message to a target, also to one that is switched off, and note it in the audit log."""
    found = Tested(False, TOO_MANY_TESTS)
    if sign_in.count_test(target.address):
        found = _test_by_email(target) if target.channel == Channel.EMAIL else _test_by_webhook(target)
    note("tested", AlertTarget._meta.db_table, str(target.pk), result=found.said)
    return found


def _test_by_email(target: AlertTarget) -> Tested:
    lines = [
        f"This is a test. Alerts of {NAME} that are meant for this address will arrive like this message.",
        "",
        f"Sent: {datetime.now(UTC):%-d %b %Y %H:%M} UTC",
    ]
    try:
        email(target.address, f"A test of the alerts of {NAME}", lines, f"test-{uuid.uuid4()}")
    except NotSent as error:
        return Tested(False, f"The test was not sent: {error}.")
    return Tested(True, "The mail server took the test. Look whether it arrives.")


def _test_by_webhook(target: AlertTarget) -> Tested:
    name = f"test_{uuid.uuid4().hex}"
    try:
        status = post(target, name, {"type": "test", "id": name, "at": moments.show(datetime.now(UTC))})
    except Unreachable as error:
        reason = str(error)
    except NotSent as error:
        return Tested(False, f"The test was not sent: {error}.")
    else:
        if 200 <= status < 300:
            return Tested(True, "The webhook took the test.")
        reason = f"the webhook answered {status}"
    logger.warning("the test of alert target %s failed: %s", target.pk, reason)
    return Tested(False, "The test failed. The log of the gateway says why.")


def email(
    address: str,
    subject: str,
    lines: list[str],
    name: str,
    *,
    html: str = "",
    files: Mapping[str, tuple[bytes, str]] | None = None,
) -> None:
    """Hand a message to the mail server.

    Args:
        name: the same for every attempt, so that mail programs recognise a repetition.
        html: the same as the lines, for mail programs that show it.
        files: attached: contents and media types by name.

    Raises:
        NotSent: no mail server is configured, or it refuses the message.
    """
    if not settings.EMAIL_HOST:
        raise NotSent("no mail server is configured: set EMAIL_HOST")
    message = EmailMultiAlternatives(
        subject=subject,
        body="\n".join(lines),
        to=[address],
        headers={"Message-ID": f"<{name}@{settings.EMAIL_FROM.rpartition('@')[2]}>"},
        from_email=settings.EMAIL_FROM,
    )
    if html:
        message.attach_alternative(html, "text/html")
    for file, (content, media) in (files or {}).items():
        message.attach(file, content, media)
    try:
        message.send()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise NotSent(f"the mail server refused the message ({type(error).__name__})") from None


class Unreachable(NotSent):
    """The request failed before it had an answer."""


def post(target: AlertTarget, name: str, said: dict[str, Any]) -> int:
    """Post JSON to a webhook, signed; the HTTP status of its answer.

    Args:
        name: the message's id, the same for every attempt.

    Raises:
        NotSent: the target's secret can't be decrypted.
        Unreachable: there was no answer.
    """
    body, now = json.dumps(said, ensure_ascii=False).encode(), datetime.now(UTC)
    try:
        secret = keyring.decrypt(target.secret_ciphertext)
    except keyring.UnreadableSecret:
        raise NotSent("the target's secret can't be decrypted: enter it again") from None
    headers = {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature(secret, name, now, body),
    }
    try:
        with (
            guarded_http.client(
                destinations.current(kept=lambda: destinations.kept_hosts([target])),
                timeout=SECONDS,
                whole=ALL_SECONDS,
                tls=trusted(),
                proxy=settings.CONFIGURATION.outbound_proxy,
            ) as client,
            client.stream("POST", target.address, content=body, headers=headers) as answer,
        ):
            status: int = answer.status_code
            return status
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
        reason = next((str(each) for each in causes if isinstance(each, Forbidden)), type(error).__name__)
        raise Unreachable(f"the webhook can't be reached ({reason})") from None


def signature(secret: str, name: str, at: datetime, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`. A secret of the form `whsec_…` is base64."""
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True) if encoded != secret else secret.encode()
    except binascii.Error:
        key = secret.encode()
    signed = b"%b.%d.%b" % (name.encode(), int(at.timestamp()), body)
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def trusted() -> ssl.SSLContext:
    """A TLS context that trusts the system's certificate authorities and the deployment's own (`CA_BUNDLE`)."""
    context = ssl.create_default_context()
    if settings.CONFIGURATION.ca_bundle:
        context.load_verify_locations(settings.CONFIGURATION.ca_bundle)
    return context
