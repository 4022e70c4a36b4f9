"""The table of runs that wrote adjustments of estimates; each adjustment names its run."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from keys.models import ProviderKey


class AdjustmentRun(models.Model):
    """Adjustments that were written together, from one reason. A run that takes another one back names it."""

    provider_key = models.ForeignKey(ProviderKey, on_delete=models.PROTECT, related_name="+")
    since = models.DateTimeField()
    until = models.DateTimeField()
    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=200)
    made_at = models.DateTimeField(db_default=Now())
    calls = models.PositiveIntegerField()
    cost = models.DecimalField(max_digits=30, decimal_places=12)
    charge = models.DecimalField(max_digits=30, decimal_places=12, help_text="What owners pay more.")
    undoes = models.OneToOneField("self", on_delete=models.PROTECT, null=True, related_name="undone_by")

    class Meta:
        ordering: ClassVar = ["-id"]
        default_permissions: ClassVar = ("view", "add")
        verbose_name = "adjustment of estimates"
        verbose_name_plural = "adjustments of estimates"

    def __str__(self) -> str:
        return f"{self.provider_key} {self.since:%Y-%m-%d}: {self.reason}"
