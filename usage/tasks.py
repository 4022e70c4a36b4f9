"""What Celery does for usage, by the schedule in `gateway_project.celery`. Every task may run twice, or not at all."""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings

from usage import alert_delivery, free_calls, functions, ledger, performance, refusals, rollups, verification

logger = logging.getLogger(__name__)


@shared_task
def roll_up() -> None:
    """Bring the roll-ups up to date."""
    rollups.roll_up()


@shared_task
def reap() -> None:
    """Take over what dead processes left (web processes do it too), and end what was held for too long."""
    ledger.reap(timedelta(seconds=settings.CONFIGURATION.lease_seconds))
    ledger.give_back(timedelta(seconds=settings.CONFIGURATION.retained_seconds))
    ledger.expire()


@shared_task
def verify_ledger() -> None:
    """Derive every counter again; one that differs is logged as an error."""
    for difference in verification.verify():
        logger.error("a counter is wrong: %s", difference)


@shared_task
def deliver_alerts() -> None:
    """Deliver alerts to their targets."""
    alert_delivery.sweep()


@shared_task
def observe_providers() -> None:
    """See how provider keys do, for virtual keys whose weights follow that."""
    performance.observe()


@shared_task
def make_partitions() -> None:
    """Make room in the ledger for the months to come."""
    ledger.make_partitions()


@shared_task
def drop_old_arbiters() -> None:
    """Drop the arbiter's functions of versions that no process uses any more."""
    for schema in functions.drop_unused():
        logger.info("dropped %s, which no process uses any more", schema)


@shared_task
def forget_refusals() -> None:
    """Forget the refusals that are old enough."""
    refusals.forget(settings.CONFIGURATION.refusal_days)


@shared_task
def forget_free_calls() -> None:
    """Forget how many free calls there were on days that are long past."""
    free_calls.forget(settings.CONFIGURATION.free_call_days)
