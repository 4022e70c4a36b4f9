"""Whom to tell of alerts (usage.budgets.Alert, which the arbiter writes), and how far the telling is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from keys.models import Customer
from usage.budgets import Alert


class Channel(models.TextChoices):
    """How an alert is told."""

    EMAIL = "email", "e-mail"
    WEBHOOK = "webhook", "webhook"


class AlertTarget(models.Model):
    """An address that alerts go to: of one customer's budgets, or of everybody's. A webhook's secret is encrypted."""

    channel = models.CharField(max_length=10, choices=Channel)
    customer = models.ForeignKey(
        Customer,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="alert_targets",
        help_text="Alerts of its budgets, its teams' and its keys'. Empty: of everybody's.",
    )
    address = models.CharField(max_length=500, help_text="An e-mail address, or a webhook's URL.")
    secret_ciphertext = models.BinaryField(editable=False, default=b"")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["address"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(channel__in=Channel.values), name="usage_alerttarget_channel")
        ]

    def __str__(self) -> str:
        return self.address


class Delivery(models.Model):
    """One alert to one target: tried again until it is there, or given up."""

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="deliveries")
    target = models.ForeignKey(AlertTarget, on_delete=models.PROTECT, related_name="deliveries")
    created_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(help_text="Not to be tried before.")
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True, help_text="Why the last attempt failed.")

    class Meta:
        verbose_name_plural = "deliveries"
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"], name="usage_delivery_due", condition=Q(delivered_at=None, given_up_at=None)
            )
        ]
        constraints: ClassVar = [models.UniqueConstraint(fields=["alert", "target"], name="usage_delivery_once")]

    def __str__(self) -> str:
        return f"{self.alert} to {self.target}"

    @property
    def state(self) -> str:
        """`delivered`, `given up` or `under way`."""
        return "delivered" if self.delivered_at else "given up" if self.given_up_at else "under way"
