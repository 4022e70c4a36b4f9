"""Free calls that reached a provider (token counting, files, batch queries): counted per day, kept for some days.

They have no rows in the ledger: since they cost nothing, no budget would stop a client from filling it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from django.db import models

from keys.models import VirtualKey


class FreeCalls(models.Model):
    """The number of calls of a virtual key to an endpoint, per day (UTC) and `usage.models.Status`."""

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
    """Delete counts that are more than `days` days old; return the number of rows deleted."""
    before = datetime.now(UTC).date() - timedelta(days=days)
    return FreeCalls.objects.filter(day__lt=before).delete()[0]
