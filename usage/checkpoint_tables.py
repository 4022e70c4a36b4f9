"""Checkpoints: what each budget window had spent and held when every counter was right (usage/checkpoints.py)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Checkpoint(models.Model):
    """A moment up to which the ledger was verified: all transactions below `below_xid`. Append-only.

    `hash` is over its windows and `previous_hash`, that of the checkpoint before. The first one of a chain has none
    before, and all windows; a later one has the windows that changed.
    """

    made_at = models.DateTimeField()
    below_xid = models.TextField()
    windows = models.BigIntegerField(help_text="how many it has")
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"checkpoint {self.pk}"


class CheckpointWindow(models.Model):
    """What a budget window had spent by the transactions below the checkpoint's, and what was held in it then, in the
    budget's unit. A budget without a period has one window."""

    pk = models.CompositePrimaryKey("budget", "start", "checkpoint")
    budget = models.BigIntegerField()
    start = models.DateTimeField()
    checkpoint = models.BigIntegerField(db_index=True)
    spent = models.DecimalField(max_digits=38, decimal_places=12)
    held = models.DecimalField(max_digits=38, decimal_places=12)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"budget {self.budget} from {self.start}"
