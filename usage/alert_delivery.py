"""Telling people of alerts, by e-mail and webhook. Tables are swept: a message that a broker loses loses nothing.

An alert is told to each target at least once: an answer that is lost is asked for again, under the same id.
Webhooks are signed as https://www.standardwebhooks.com says.
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
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from keys import keyring
from keys.models import Customer
from usage import moments, overruns
from usage.alerts import AlertTarget, Channel, Delivery
from usage.budgets import Alert, Period, Unit, Window

logger = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=1)
# Whoever dies while sending has so long; then somebody else tries.
LEASE = timedelta(minutes=2)
SECONDS = 10.0
# So many alerts are planned at a time.
AT_ONCE = 500


class Undelivered(Exception):
    """An attempt failed; the message says why, for administrators, and quotes nothing."""


def sweep(seconds: float = 240) -> None:
    """Plan what is new, and try what is due for as long as that."""
    deadline = time.monotonic() + seconds
    overruns.raise_alerts()
    plan()
    while time.monotonic() < deadline and (delivery := claim()) is not None:
        attempt(delivery)


@transaction.atomic
def plan() -> int:
    """Make a delivery of each new alert for each of its targets; returns of how many alerts. One that nobody is to be
    told of counts as told."""
    new = Alert.objects.filter(~Exists(Delivery.objects.filter(alert=OuterRef("pk"))), delivered_at=None)
    alerts = list(new.order_by("pk").select_for_update(skip_locked=True)[:AT_ONCE])
    now = timezone.now()
    for alert in alerts:
        targets = AlertTarget.objects.filter(Q(customer=None) | Q(customer=payer(alert)), active=True)
        made = Delivery.objects.bulk_create(
            (Delivery(alert=alert, target=target, created_at=now, next_at=now) for target in targets),
            # Somebody else has just planned it.
            ignore_conflicts=True,
        )
        if not made:
            Alert.objects.filter(pk=alert.pk).update(delivered_at=now)
    return len(alerts)


def claim() -> Delivery | None:
    """The delivery that has been due for longest, as nobody else's for a while; None where none is due."""
    now = timezone.now()
    with transaction.atomic():
        due = Delivery.objects.filter(delivered_at=None, given_up_at=None, next_at__lte=now).order_by("next_at", "pk")
        delivery = due.select_for_update(skip_locked=True).first()
        if delivery is not None:
            delivery.attempts += 1
            delivery.next_at = now + LEASE
            delivery.save(update_fields=["attempts", "next_at"])
    return delivery


def attempt(delivery: Delivery) -> None:
    """Try once, and note what became of it."""
    try:
        if not delivery.target.active:
            raise Undelivered("the target is switched off")
        (send_email if delivery.target.channel == Channel.EMAIL else send_webhook)(delivery)
    except Undelivered as error:
        delivery.problem = str(error)[:200]
        now = timezone.now()
        if now >= delivery.created_at + GIVE_UP_AFTER:
            delivery.given_up_at = now
            logger.error("delivery %s of an alert was given up: %s", delivery.pk, error)
        else:
            delivery.next_at = now + pause(delivery.attempts)
    else:
        delivery.problem = ""
        delivery.delivered_at = timezone.now()
    with transaction.atomic():
        delivery.save(update_fields=["problem", "next_at", "delivered_at", "given_up_at"])
        untold = Delivery.objects.filter(alert=delivery.alert_id, delivered_at=None)
        Alert.objects.filter(~Exists(untold), pk=delivery.alert_id).update(delivered_at=timezone.now())


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts have failed."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 16)), LONGEST_PAUSE)


def retry_now(delivery: Delivery) -> None:
    """Try one that is under way or was given up again at once, and for another day."""
    now = timezone.now()
    Delivery.objects.filter(pk=delivery.pk, delivered_at=None).update(
        given_up_at=None, attempts=0, created_at=now, next_at=now
    )


# What is said


def payer(alert: Alert) -> Customer | None:
    """The customer whose budget or virtual key it is about, in the end; provider keys are everybody's."""
    if alert.provider_key is not None:
        return None
    budget = alert.budget
    owner = alert.virtual_key if budget is None else budget.customer or budget.team or budget.virtual_key
    assert owner is not None
    return owner if isinstance(owner, Customer) else owner.customer


def described(alert: Alert) -> dict[str, Any]:
    """An alert as webhooks get it; amounts are strings, exact, in the budget's unit, of overruns in USD."""
    budget = alert.budget
    if alert.provider_key is not None:
        return {
            "type": "provider_key.refused",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "provider_key": alert.provider_key.name,
            "provider": alert.provider_key.provider,
            "http_status": alert.http_status,
        }
    if budget is None:
        return {
            "type": "virtual_key.overrun",
            "id": f"alert_{alert.pk}",
            "at": moments.show(alert.at),
            "cost": plain(alert.spent),
            "held": plain(alert.amount),
            "virtual_key": str(alert.virtual_key),
            "customer": str(payer(alert)),
            "day": f"{alert.start.astimezone(UTC):%Y-%m-%d}",
        }
    kind = "customer" if budget.customer else "team" if budget.team else "virtual_key"
    window = Window.objects.filter(budget=budget, start=alert.start).first()
    return {
        "type": "budget.threshold",
        "id": f"alert_{alert.pk}",
        "at": moments.show(alert.at),
        "threshold": alert.threshold,
        "spent": plain(alert.spent),
        "amount": plain(alert.amount),
        "budget": {
            "id": budget.pk,
            "owner": {"type": kind, "name": getattr(budget, kind).name},
            "customer": str(payer(alert)),
            "models": budget.model_patterns,
            "unit": budget.unit,
            "period": budget.period,
            "enforcement": budget.enforcement,
        },
        "window": {
            "start": None if budget.period == Period.NONE else moments.show(alert.start),
            "until": moments.show(window.until) if window and window.until else None,
        },
    }


def in_words(alert: Alert) -> tuple[str, list[str]]:
    """An alert as people get it: the subject, and lines."""
    said, budget = described(alert), alert.budget
    if alert.provider_key is not None:
        return f"The provider refuses provider key {said['provider_key']}", [
            f"It answered {said['http_status']}: the key isn't good any more, may not do what it is asked, or its"
            " account is spent. Calls go to other provider keys meanwhile, or are refused where there is none. One call"
            " every few minutes tries whether it is well again. After a new secret, or when its cool-down is ended in"
            " the admin, the next one does.",
            "",
            f"Provider key: {said['provider_key']}",
            f"Provider: {said['provider']}",
            f"Since: {said['at']}; there is no other message of it in this hour.",
        ]
    if budget is None:
        name = alert.virtual_key.full_name if alert.virtual_key else said["virtual_key"]
        return f"Calls of virtual key {name} cost more than was held for them", [
            f"They cost {said['cost']} USD, {said['held']} USD were held. They are charged in full, so that budgets may"
            " be passed.",
            "",
            f"Virtual key: {name}",
            f"Customer: {said['customer']}",
            f"Day: {said['day']} (UTC); there is no other message of this key's on this day.",
        ]
    unit = " tokens" if budget.unit == Unit.TOKENS else " USD"
    lines = [
        f"{said['spent']}{unit} of {said['amount']}{unit} are spent: {alert.threshold} % is passed.",
        "",
        f"Budget: {budget}",
        f"Customer: {said['budget']['customer']}",
        f"Models: {', '.join(budget.model_patterns) or 'all'}",
        f"Window: from {said['window']['start']} until {said['window']['until']}",
    ]
    if budget.period == Period.NONE:
        lines.pop()
    return f"{alert.threshold} % of {budget}", lines


def plain(amount: Any) -> str:
    """A decimal number without an exponent or zeros at its end."""
    return f"{amount.normalize():f}"


# How it is sent


def send_email(delivery: Delivery) -> None:
    """Hand the alert to the mail server.

    Raises:
        Undelivered: there is none, or it doesn't take it.
    """
    if not settings.EMAIL_HOST:
        raise Undelivered("no mail server is configured: EMAIL_HOST")
    alert = delivery.alert
    subject, lines = in_words(alert)
    message = EmailMessage(
        subject=subject,
        body="\n".join(lines),
        to=[delivery.target.address],
        # The same for every attempt, so that mail programs know a repetition.
        headers={"Message-ID": f"<alert-{alert.pk}-{delivery.pk}@{settings.EMAIL_FROM.rpartition('@')[2]}>"},
        from_email=settings.EMAIL_FROM,
    )
    try:
        message.send()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise Undelivered(f"the mail server doesn't take it ({type(error).__name__})") from None


def send_webhook(delivery: Delivery) -> None:
    """Post the alert, signed.

    Raises:
        Undelivered: it can't be, or isn't answered with a 2xx.
    """
    body = json.dumps(described(delivery.alert), ensure_ascii=False).encode()
    name, now = f"alert_{delivery.alert_id}", datetime.now(UTC)
    try:
        secret = keyring.decrypt(delivery.target.secret_ciphertext)
    except keyring.UnreadableSecret:
        raise Undelivered("its secret can't be decrypted") from None
    headers = {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature(secret, name, now, body),
    }
    configuration = settings.CONFIGURATION
    try:
        with (
            httpx.Client(
                timeout=SECONDS,
                verify=trusted(),
                proxy=configuration.outbound_proxy or None,
                trust_env=False,
                follow_redirects=False,
            ) as client,
            client.stream("POST", delivery.target.address, content=body, headers=headers) as answer,
        ):
            if not answer.is_success:
                raise Undelivered(f"it answers {answer.status_code}")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Undelivered(f"it can't be reached ({type(error).__name__})") from None


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
    """Whom to trust: the system's certificate authorities, and the deployment's own."""
    context = ssl.create_default_context()
    if settings.CONFIGURATION.ca_bundle:
        context.load_verify_locations(settings.CONFIGURATION.ca_bundle)
    return context
