"""Reads an admin key's reports, compares the days that were read, and tells of requests that we never sent."""

from __future__ import annotations

import logging
import time
from datetime import date, datetime, timedelta

from django.utils import timezone

from reconciliation import admin_keys, comparing, leaks, pacing, reading
from reconciliation.freshness import DAILY
from reconciliation.http import Trouble
from reconciliation.reading import Run
from reconciliation.sources import AdminKey

logger = logging.getLogger(__name__)

# A task reads for this long; the next one goes on. Celery ends it after ten minutes.
SECONDS = 400.0


class Busy(Exception):
    """Another worker reads with this admin key now, or it is switched off."""


def run(admin_key: AdminKey, work: Run) -> str:
    """Read what is due and compare it. What was read before a fault is compared, too.

    Returns:
        Why reading ended early; empty: it didn't.

    Raises:
        Busy: another worker reads with this key.
    """
    with pacing.claimed(admin_key) as may:
        if not may:
            raise Busy
        problem = ""
        try:
            reading.read_due(admin_key, work)
        except Trouble as trouble:
            problem = str(trouble)
            admin_keys.keep_problem(admin_key, problem)
            logger.warning("the reports of admin key %s can't be read: %s", admin_key.pk, problem)
        pacing.extend(admin_key)
        comparing.compare_days(admin_key, work.days)
        leaks.tell(admin_key, work.days)
    return problem


def run_all() -> None:
    """Read the reports of all active admin keys, as much as is due and as there is time for."""
    ends_at = time.monotonic() + SECONDS
    for admin_key in AdminKey.objects.filter(active=True).order_by("read_at"):
        try:
            run(admin_key, Run(since=usual_since(), ends_at=ends_at))
        except Busy:
            continue


def usual_since(now: datetime | None = None) -> date:
    """The first day that tasks read: figures of earlier ones don't change any more."""
    return ((now or timezone.now()) - DAILY - timedelta(days=1)).date()
