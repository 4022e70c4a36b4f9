"""Calls that reached a provider and cost nothing (counting tokens, files, what is asked about batches): counted, and
kept for days. They have no rows in the ledger, for whoever calls for nothing would fill it for ever.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from django.db import models

from keys.models import VirtualKey


class FreeCalls(models.Model):
    """How many calls of a virtual key to an endpoint ended in a way (`usage.models.Status`) on a day (UTC)."""

    day = models.DateField()
    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    endpoint = models.CharField(max_length=40)
    status = models.CharField(max_length=30)
    calls = models.BigIntegerField()

    class Meta:
        verbose_name = "count of free calls"
        verbose_name_plural = "free calls"
        ordering: ClassVar = ["-day", "virtual_key", "endpoint", "status"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["day", "virtual_key", "endpoint", "status"], name="usage_freecalls_once")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.endpoint}, {self.status}"


def forget(days: int) -> int:
    """Delete the counts of days that are older than so many; returns how many rows that was."""
    before = datetime.now(UTC).date() - timedelta(days=days)
    return FreeCalls.objects.filter(day__lt=before).delete()[0]
