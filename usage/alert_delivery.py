"""Sends alerts to their targets.

Deliveries are rows that a periodic task sweeps, so that no alert is lost when the broker loses a message. Each target
receives an alert at least once: if the answer to a request is lost, the request is repeated under the same id.
"""

from __future__ import annotations

import logging
import time

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from usage import alert_sending, expiries, moments, outbox, overruns
from usage.alert_sending import NotSent, Unreachable
from usage.alert_words import described, in_words, payer
from usage.alerts import Alert, AlertTarget, Channel, Delivery, Unsent, targets_for
from usage.budgets import Period

logger = logging.getLogger(__name__)

# Alerts that one call of `plan` handles at most.
AT_ONCE = 500


class Undelivered(Exception):
    """An attempt failed. The message says why, for administrators; it never quotes what a target answered."""


def sweep(seconds: float = 240) -> None:
    """Create the deliveries of new alerts, then attempt those that are due until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    overruns.raise_alerts()
    plan()
    while time.monotonic() < deadline and (delivery := outbox.claim(Delivery)) is not None:
        attempt(delivery)


@transaction.atomic
def plan() -> int:
    """Choose the targets of each new alert; return the number of alerts handled. Targets are chosen once: one that is
    added later receives only alerts that are raised after that."""
    new = Alert.objects.filter(~Exists(Delivery.objects.filter(alert=OuterRef("pk"))), delivered_at=None, unsent="")
    alerts = list(new.order_by("pk").select_for_update(skip_locked=True)[:AT_ONCE])
    for alert in alerts:
        if already_said(alert):
            unsent: str = Unsent.SAID
        else:
            targets = targets_for(payer(alert))
            unsent = "" if address(alert, targets) else why_not_sent(targets)
        if unsent:
            Alert.objects.filter(pk=alert.pk).update(unsent=unsent)
    return len(alerts)


def address(alert: Alert, targets: QuerySet[AlertTarget]) -> bool:
    """Create a delivery for each active target, and, with a mail server, for the owner of a key that expires; False if
    there is no receiver."""
    now = moments.now()
    receivers: list[AlertTarget | None] = list(targets.filter(active=True))
    if settings.EMAIL_HOST and alert.expires_at and alert.virtual_key and expiries.owner_address(alert.virtual_key):
        receivers.append(None)
    made = Delivery.objects.bulk_create(
        (Delivery(alert=alert, target=target, created_at=now, next_at=now) for target in receivers),
        # Another worker has just planned the same alert.
        ignore_conflicts=True,
    )
    return bool(made)


def why_not_sent(targets: QuerySet[AlertTarget]) -> Unsent:
    """Why there is no active target among these."""
    if targets.exists():
        return Unsent.PAUSED
    return Unsent.OTHERS if AlertTarget.objects.exists() else Unsent.NO_TARGET


def already_said(alert: Alert) -> bool:
    """Whether the alert is about a threshold that the budget's “exhausted” alert already shows as passed."""
    if alert.budget is None or alert.exhausted:
        return False
    exhausted = Alert.objects.filter(budget=alert.budget, threshold=0)
    if alert.budget.period != Period.NONE:
        exhausted = exhausted.filter(start=alert.start)
    return exhausted.filter(spent__gte=F("amount") * alert.threshold / 100).exists()


def attempt(delivery: Delivery) -> None:
    """Try once, and record the result."""
    try:
        if delivery.target is None:
            send_email(delivery, owner_of(delivery))
        elif not delivery.target.active:
            raise Undelivered("the target is switched off")
        elif delivery.target.channel == Channel.EMAIL:
            send_email(delivery, delivery.target.address)
        else:
            send_webhook(delivery, delivery.target)
    except Undelivered as error:
        if outbox.note_failure(delivery, str(error)):
            logger.error("alert delivery %s was given up after a day of attempts: %s", delivery.pk, error)
    else:
        outbox.note_success(delivery, moments.now())
    with transaction.atomic():
        delivery.save(update_fields=outbox.RESULT)
        undelivered = Delivery.objects.filter(alert=delivery.alert_id, delivered_at=None)
        Alert.objects.filter(~Exists(undelivered), pk=delivery.alert_id).update(delivered_at=moments.now())


def retry_now(delivery: Delivery) -> None:
    """Make a delivery that is under way or given up due at once, and retry it for another day."""
    now = moments.now()
    Delivery.objects.filter(pk=delivery.pk, delivered_at=None).update(
        given_up_at=None, attempts=0, created_at=now, next_at=now
    )


def owner_of(delivery: Delivery) -> str:
    """The e-mail address of the owner of the alert's virtual key.

    Raises:
        Undelivered: the owner has no address any more.
    """
    key = delivery.alert.virtual_key
    address = expiries.owner_address(key) if key else ""
    if not address:
        raise Undelivered("the key's owner has no e-mail address")
    return address


def send_email(delivery: Delivery, address: str) -> None:
    """Hand the alert to the mail server.

    Raises:
        Undelivered: no mail server is configured, or it refuses the message.
    """
    alert = delivery.alert
    try:
        alert_sending.email(address, *in_words(alert), f"alert-{alert.pk}-{delivery.pk}")
    except NotSent as error:
        raise Undelivered(str(error)) from None


def send_webhook(delivery: Delivery, target: AlertTarget) -> None:
    """Post the alert, signed.

    Raises:
        Undelivered: the request failed, or its answer isn't a 2xx. Only the log says which: a user who may add targets
            must not be able to find out which addresses of the network answer.
    """
    try:
        status = alert_sending.post(target, f"alert_{delivery.alert_id}", described(delivery.alert))
    except Unreachable as error:
        raise failed(delivery, str(error)) from None
    except NotSent as error:
        raise Undelivered(str(error)) from None
    if not 200 <= status < 300:
        raise failed(delivery, f"the webhook answered {status}")


def failed(delivery: Delivery, reason: str) -> Undelivered:
    """The error that a webhook's delivery shows; the reason goes to the log only."""
    logger.warning("alert delivery %s failed: %s", delivery.pk, reason)
    return Undelivered("failed")
