"""The one row about the whole gateway."""

from __future__ import annotations

from django.db import models


class Gateway(models.Model):
    """The one row that describes the whole gateway. `catalogue_revision` grows with every change to a provider key."""

    id = models.SmallAutoField(primary_key=True)
    paused = models.BooleanField(default=False, help_text="Refuse every call until this is switched off.")
    catalogue_revision = models.BigIntegerField(default=1, editable=False)

    class Meta:
        verbose_name_plural = "gateway"

    def __str__(self) -> str:
        return "the whole gateway"
