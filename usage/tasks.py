"""What Celery does for usage, by the schedule in `gateway_project.celery`. Every task may run twice, or not at all."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings

from usage import ledger, refusals, rollups


@shared_task
def roll_up() -> None:
    """Bring the roll-ups up to date."""
    rollups.roll_up()


@shared_task
def reap() -> None:
    """Take over what dead processes left; web processes do it too."""
    ledger.reap(timedelta(seconds=settings.CONFIGURATION.lease_seconds))


@shared_task
def make_partitions() -> None:
    """Make room in the ledger for the months to come."""
    ledger.make_partitions()


@shared_task
def forget_refusals() -> None:
    """Forget the refusals that are old enough."""
    refusals.forget(settings.CONFIGURATION.refusal_days)
