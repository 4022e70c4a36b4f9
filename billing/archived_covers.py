"""What documents cover of archived months: their sums, kept when a month is detached from the ledger."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class ArchivedCover(models.Model):
    """The sums of the ledger rows and adjustments of an archived month that a cover has, by team. They count once the
    month is detached (usage/archived.py)."""

    cover = models.ForeignKey("billing.Cover", on_delete=models.PROTECT, related_name="archived")
    month = models.DateField()
    team = models.BigIntegerField(null=True)
    calls = models.BigIntegerField()
    adjustments = models.BigIntegerField()
    owed = models.DecimalField(max_digits=38, decimal_places=12, help_text="USD that the owner pays for both")

    class Meta:
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cover", "month", "team"], name="billing_archivedcover_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.cover_id} {self.month:%Y-%m}"
