"""The log of refused calls: kept for days, so that support can find a call by its request id."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from usage.models import Refusal

# Rows per DELETE: several short statements instead of a long one.
PART = 10_000


def forget(days: int) -> int:
    """Delete refusals older than `days` days; return the number of rows deleted."""
    before = timezone.now() - timedelta(days=days)
    forgotten = 0
    while True:
        old = Refusal.objects.filter(refused_at__lt=before).values_list("pk", flat=True)[:PART]
        part = Refusal.objects.filter(pk__in=list(old)).delete()[0]
        forgotten += part
        if part < PART:
            return forgotten
