"""Limits: how many calls may be made a minute, or at once, and with how many tokens.

The arbiter (usage/arbiter/) keeps their counters.
"""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from usage.budgets import MOST, Owned


class LimitKind(models.TextChoices):
    """What a limit counts."""

    REQUESTS = "rpm", "requests a minute"
    INPUT_TOKENS = "input_tpm", "input tokens a minute"
    OUTPUT_TOKENS = "output_tpm", "output tokens a minute"
    PARALLEL = "parallel", "calls at once"

    def said(self, rate: int) -> str:
        """A rate in words: `60 requests a minute`, `1 call at once`."""
        return f"{rate:,} {self.unit(rate)}"

    def unit(self, rate: int) -> str:
        """What a rate counts, after its number: `requests a minute`, and `request a minute` after 1."""
        return self.label if rate != 1 else self.label.replace("s ", " ", 1)


class Limit(Owned):
    """A limit per minute (GCRA), or of parallel calls.

    In any minute, at most `rate` plus the burst passes. The burst is what may be used at once: `burst`, or by default
    what usage_bucket in usage/arbiter/applying.sql returns. A call with more tokens than the burst passes if nothing
    else was used lately; the calls after it wait until its tokens are paid off.
    """

    KIND = ("kind",)
    SECOND = "This owner already has a limit of this kind and scope: change that one."

    kind = models.CharField(max_length=10, choices=LimitKind)
    rate = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1)], help_text="Per minute; of calls at once, how many."
    )
    burst = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="What may come at once. Empty: a sixth of the requests a minute, at least 10 and at most the rate; or"
        " a tenth of the tokens.",
    )
    count_cached = models.BooleanField(default=False, help_text="Input tokens read from caches count, too.")

    class Meta(Owned.Meta):
        abstract = False
        indexes: ClassVar = [*Owned.Meta.indexes, models.Index(fields=["kind", "id"], name="usage_limit_kind")]
        constraints: ClassVar = [
            *Owned.Meta.constraints,
            models.CheckConstraint(condition=Q(rate__gt=0), name="usage_limit_rate"),
        ]

    def __str__(self) -> str:
        return f"{self.terms()} for {self.owned_by()}"

    def terms(self) -> str:
        """The rate in words: `60 requests a minute`."""
        return LimitKind(self.kind).said(self.rate)

    def clean(self) -> None:
        """Refuse settings that would have no effect on this kind of limit.

        Raises:
            ValidationError: with a sentence for the person who typed it.
        """
        if self.kind == LimitKind.PARALLEL and self.burst:
            raise ValidationError({"burst": "A limit of calls at once has no burst: leave this empty."})
        for name in ("rate", "burst"):
            if (getattr(self, name) or 0) > MOST:
                raise ValidationError({name: f"A limit can be at most {MOST:f}."})
        if self.kind != LimitKind.INPUT_TOKENS and self.count_cached:
            raise ValidationError({"count_cached": "This applies only to a limit of input tokens: untick it."})
        super().clean()


class LimitState(models.Model):
    """The arbiter's state of a limit: when its bucket is full again (GCRA's theoretical arrival time), or the number of
    calls in progress."""

    limit = models.OneToOneField(
        Limit, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="state"
    )
    full_at = models.DateTimeField()
    running = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"limit {self.limit_id}"
