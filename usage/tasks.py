"""Celery tasks of usage, on the schedule in `gateway_project.celery`. It is safe if a task runs twice or is skipped."""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings

from usage import (
    alert_delivery,
    archive_policy,
    expiries,
    free_calls,
    functions,
    ledger,
    performance,
    refusals,
    restoring,
    rollups,
    verification,
)
from usage.reporting import mailing

logger = logging.getLogger(__name__)
# Archiving a month of many millions of calls takes longer than other tasks may.
ARCHIVE_SECONDS = 6 * 3600


@shared_task
def roll_up() -> None:
    rollups.roll_up()


@shared_task
def check_rollups() -> None:
    """Compare a random hour of the roll-ups with the ledger; a difference is an error in the log, and an alert."""
    if (found := rollups.check_random_hour()) is not None:
        logger.error(
            "the roll-ups of %s differ from the ledger in %d rows: manage.py rebuild_rollups --since %s",
            found.since.isoformat(),
            found.cells,
            found.since.date(),
        )


@shared_task
def complete_rollups() -> None:
    """Sum roll-ups of an earlier version again, day by day, for as long as the schedule leaves time."""
    rollups.complete(seconds=40)


@shared_task
def reap() -> None:
    """Settle the holds of dead processes (web processes do it too), and release what was retained or held too long."""
    ledger.reap_those_that_stay_silent(timedelta(seconds=settings.CONFIGURATION.lease_seconds))
    ledger.give_back(timedelta(seconds=settings.CONFIGURATION.retained_seconds))
    ledger.expire()


@shared_task
def verify_ledger() -> None:
    """Recompute every counter from the last checkpoint on; log an error for each that differs, for monitoring to pick
    up. If none does, what was verified becomes the next checkpoint."""
    for fault in verification.check_point().faults:
        logger.error("a counter differs from the ledger: %s (see manage.py verify_ledger)", fault)


@shared_task
def deliver_alerts() -> None:
    """Send alerts to their targets."""
    alert_delivery.sweep()


@shared_task
def mail_reports() -> None:
    """Send the saved reports that are due."""
    mailing.sweep()


@shared_task
def tell_of_expiries() -> None:
    """Raise an alert for each virtual key that expires soon."""
    expiries.raise_alerts(settings.CONFIGURATION.expiry_notice_days)


@shared_task
def observe_providers() -> None:
    """Measure how provider keys perform, for virtual keys with adaptive weights."""
    performance.observe()


@shared_task
def make_partitions() -> None:
    """Create the ledger's partitions for the next months, and log which months have rows in the default partition:
    a month of which there are any gets no partition."""
    ledger.make_partitions()
    for month, rows in restoring.strays().items():
        logger.error(
            "%d ledger rows of %s are in the default partition: manage.py restore_month --strays %s",
            rows,
            f"{month:%Y-%m}",
            f"{month:%Y-%m}",
        )


@shared_task(time_limit=ARCHIVE_SECONDS)
def archive_months() -> None:
    """Archive months older than `LEDGER_MONTHS`, and delete the tables of those archived `ARCHIVE_KEPT_DAYS` ago."""
    for line in archive_policy.run():
        logger.info(line)


@shared_task
def drop_old_arbiters() -> None:
    """Drop the arbiter's functions of versions that no process uses any more."""
    for schema in functions.drop_unused():
        logger.info("dropped %s, which no process uses any more", schema)


@shared_task
def forget_refusals() -> None:
    """Delete refusals older than `REFUSAL_DAYS`."""
    refusals.forget(settings.CONFIGURATION.refusal_days)


@shared_task
def forget_free_calls() -> None:
    """Delete counts of free calls older than `FREE_CALL_DAYS`."""
    free_calls.forget(settings.CONFIGURATION.free_call_days)
