"""What the gateway has found out about each provider key: tests, cool-downs, performance, models."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone

from keys.models.provider_keys import ProviderKey


class CheckState(models.TextChoices):
    """The result of testing a provider key. A provider key that was not tested has no row."""

    WORKS = "works", "works"
    REFUSED = "refused", "refused"
    UNREACHABLE = "unreachable", "can't be reached"
    # The answer shows neither: the provider has no list of models, is busy, or is another kind of API.
    ANSWERED = "answered", "answered"


class ProviderKeyCheck(models.Model):
    """The result of testing a provider key's secret and address (keys/provider_checks.py).

    When one of these changes, a trigger deletes the row. Calls don't depend on it.
    """

    provider_key = models.OneToOneField(
        ProviderKey, on_delete=models.CASCADE, primary_key=True, related_name="last_check", db_constraint=False
    )
    state = models.CharField(max_length=20, choices=CheckState)
    http_status = models.PositiveSmallIntegerField(null=True)
    message = models.CharField(max_length=300, blank=True)
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.headline()}: {self.message}" if self.message else self.headline()

    def headline(self) -> str:
        """The result without its message, like `refused (HTTP 401)`."""
        status = f" (HTTP {self.http_status})" if self.http_status and self.state != CheckState.WORKS else ""
        return f"{self.get_state_display()}{status}"


class CooldownReason(models.TextChoices):
    """Why a provider key cools down."""

    RATE_LIMITED = "rate_limited", "rate limited"
    FAILING = "failing", "failing"
    REFUSED = "refused", "its key or account is refused"


# How long after a cool-down its strikes still count, if no call succeeds in between.
FORGOTTEN_AFTER = timedelta(minutes=10)


class Cooldown(models.Model):
    """A time in which a provider key gets no calls of one model or (if `model` is empty) of any (keys/cooldowns.py).

    `strikes` counts the failures without a success between them. After `until`, a call may probe the provider key.
    """

    provider_key = models.ForeignKey(ProviderKey, on_delete=models.CASCADE, related_name="cooldowns")
    model = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=20, choices=CooldownReason)
    http_status = models.PositiveSmallIntegerField(null=True)
    strikes = models.PositiveIntegerField(default=0)
    since = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["provider_key__name", "model"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider_key", "model"], name="keys_cooldown_once"),
            models.CheckConstraint(condition=models.Q(reason__in=CooldownReason.values), name="keys_cooldown_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_key}, {self.model or 'all models'}"

    @classmethod
    def forget_past(cls) -> None:
        """Delete the rows whose strikes are forgotten."""
        cls.objects.filter(until__lt=timezone.now() - FORGOTTEN_AFTER).delete()

    @property
    def is_refused(self) -> bool:
        """Whether the provider refuses our key or account, which an administrator has to fix."""
        return self.reason == CooldownReason.REFUSED


class Performance(models.Model):
    """A provider key's recent performance with a model (usage.performance).

    `share` is the part of its weight that the provider key keeps for virtual keys with adaptive weights.
    """

    provider_key = models.ForeignKey(ProviderKey, on_delete=models.CASCADE, related_name="performances")
    model = models.CharField(max_length=200)
    attempts = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    first_byte_ms = models.FloatField("time to first byte (ms, median)", null=True)
    share = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        verbose_name = "performance of a provider key"
        verbose_name_plural = "performance of provider keys"
        ordering: ClassVar = ["provider_key__name", "model"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider_key", "model"], name="keys_performance_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider_key}, {self.model}"


class ModelList(models.Model):
    """The models that a provider last listed for a provider key: Anthropic's ModelInfo objects, unchanged and in order.

    A trigger deletes the row when the provider or its address changes, and clears `asked_at` when the secret changes.
    In both cases the gateway requests the list again.
    """

    provider_key = models.OneToOneField(
        ProviderKey, on_delete=models.CASCADE, primary_key=True, related_name="model_list", db_constraint=False
    )
    listed = models.JSONField(default=list)
    asked_at = models.DateTimeField(null=True)
    listed_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True, help_text="Why the last request for the list failed.")

    def __str__(self) -> str:
        return f"models of {self.provider_key}"
