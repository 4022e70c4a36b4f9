"""Alerts, which the database raises; alert targets; and the state of each delivery."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import ClassVar
from urllib.parse import urlsplit

from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from keys.models import Customer, ProviderKey, VirtualKey
from usage.budgets import MONEY, Budget
from usage.exhausted import is_used_up


class Unsent(models.TextChoices):
    """Why an alert isn't sent to any target."""

    NO_TARGET = "no_target", "there is no alert target"
    PAUSED = "paused", "the alert targets that it is for are switched off"
    OTHERS = "others", "the alert targets are for other customers"
    SAID = "said", "the alert that the budget is exhausted says as much"


class Alert(models.Model):
    """An event that people should know about. Each is raised once:

    - a window's spending passes a threshold: once per threshold, in the transaction that counts the spending;
    - a budget refuses a call (`exhausted`): once per window, in the transaction that refuses it. `needed` is what that
      call needed. usage/sql/exhausted.sql says what `start` is where there is no window;
    - calls of a virtual key cost more than their holds: once per day (UTC), which is then the window. `spent` is what
      the calls cost, `amount` what was held for them;
    - a virtual key expires soon: once for each number of days before its expiry (usage.expiries), which is then
      `threshold`; `start` and `expires_at` are the expiry;
    - a provider refuses a provider key: once per hour, with the HTTP status of the refusal (usage/sql/refused.sql);
    - a provider reports implausible usage for a provider key (`doubtful`): once per hour (usage/sql/doubtful.sql);
    - a provider counts requests on a provider key that we never sent (`unsent_requests`): once per day (UTC), whose
      last moment is `start`. `spent` are the provider's requests, `amount` ours, `needed` those that aren't ours
      (reconciliation.leaks);
    - the roll-ups of an hour differ from the ledger (`miscounted`, usage.rollups): once for each such hour, which is
      `start`. `spent` is what the ledger says, `amount` what reports show.

    Its targets are chosen within half a minute (usage.alert_delivery): from then on the alert has deliveries, or
    `unsent` says why it has none.
    """

    budget = models.ForeignKey(
        Budget, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="alerts"
    )
    virtual_key = models.ForeignKey(
        VirtualKey,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
        help_text="Whose calls cost more than was held for them, or which expires soon.",
    )
    provider_key = models.ForeignKey(
        ProviderKey,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
        help_text="Whose key or account its provider refuses, or whose usage it reports wrong.",
    )
    start = models.DateTimeField()
    threshold = models.PositiveSmallIntegerField(help_text="Percent, or days before an expiry; 0 for none.")
    spent = models.DecimalField(**MONEY)
    held = models.DecimalField(**MONEY, null=True, help_text="Of an exhausted budget, beside what was spent.")
    needed = models.DecimalField(**MONEY, null=True, help_text="By the call that an exhausted budget refused.")
    amount = models.DecimalField(**MONEY)
    http_status = models.PositiveSmallIntegerField(null=True)
    expires_at = models.DateTimeField(null=True, help_text="Of a virtual key that expires soon.")
    at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, help_text="When the last of its targets had it.")
    unsent = models.CharField(max_length=10, choices=Unsent, blank=True, db_default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["budget", "start", "threshold"], name="usage_alert_once"),
            models.UniqueConstraint(
                fields=["virtual_key", "start"], name="usage_alert_overrun_once", condition=Q(expires_at=None)
            ),
            models.UniqueConstraint(
                fields=["virtual_key", "expires_at", "threshold"],
                name="usage_alert_expiry_once",
                condition=Q(expires_at__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["provider_key", "start"],
                name="usage_alert_refused_once",
                condition=Q(http_status__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["provider_key", "start"], name="usage_alert_doubtful_once", condition=Q(http_status=None)
            ),
            models.UniqueConstraint(
                fields=["start"],
                name="usage_alert_miscounted_once",
                condition=Q(budget=None, virtual_key=None, provider_key=None),
            ),
            models.CheckConstraint(
                condition=Q(budget=None, virtual_key=None)
                | Q(virtual_key=None, provider_key=None)
                | Q(budget=None, provider_key=None),
                name="usage_alert_of_one_at_most",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], name="usage_alert_unsent", condition=Q(delivered_at=None, unsent=""))
        ]

    def __str__(self) -> str:
        return {
            "unsent_requests": f"requests on provider key {self.provider_key_id} that weren't ours",
            "doubtful_usage": f"doubtful usage of provider key {self.provider_key_id}",
            "refused_provider_key": f"refusal of provider key {self.provider_key_id}",
            "expiry": f"expiry of virtual key {self.virtual_key_id}",
            "overrun": f"overrun of virtual key {self.virtual_key_id}",
            "exhausted": f"budget {self.budget_id} exhausted",
            "threshold": f"{self.threshold} % of budget {self.budget_id}",
            "miscounted": f"roll-ups of {self.start.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        }[self.about]

    @property
    def about(self) -> str:
        """What it is about: `threshold`, `exhausted`, `overrun`, `expiry`, `refused_provider_key`, `doubtful_usage`,
        `unsent_requests` or `miscounted`."""
        if self.unsent_requests:
            return "unsent_requests"
        if self.provider_key_id is not None:
            return "doubtful_usage" if self.doubtful else "refused_provider_key"
        if self.virtual_key_id is not None:
            return "overrun" if self.expires_at is None else "expiry"
        if self.budget_id is not None:
            return "exhausted" if self.exhausted else "threshold"
        return "miscounted"

    @property
    def exhausted(self) -> bool:
        """Whether the alert is about a budget that refuses calls."""
        return self.budget_id is not None and self.threshold == 0

    @property
    def left(self) -> Decimal:
        """What the budget had left when it refused a call."""
        return self.amount - self.spent - (self.held or 0)

    @property
    def used_up(self) -> bool:
        """Whether little was left when it refused a call (usage/exhausted.py)."""
        return is_used_up(self.left, self.amount)

    @property
    def doubtful(self) -> bool:
        """Whether the alert is about implausible usage."""
        return self.provider_key_id is not None and self.http_status is None and self.needed is None

    @property
    def unsent_requests(self) -> bool:
        """Whether the alert is about requests that we never sent."""
        return self.provider_key_id is not None and self.needed is not None


class Channel(models.TextChoices):
    """How an alert is sent."""

    EMAIL = "email", "e-mail"
    WEBHOOK = "webhook", "webhook"


class AlertTarget(models.Model):
    """An address that receives alerts about one customer, or about all of them. A webhook's secret is encrypted."""

    channel = models.CharField(max_length=10, choices=Channel)
    customer = models.ForeignKey(
        Customer,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="alert_targets",
        help_text="Alerts about this customer, its teams and its keys. Empty: about all customers.",
    )
    address = models.CharField(max_length=500, help_text="An e-mail address, or a webhook's URL.")
    # Webhooks from before addresses were checked may keep a private address until it is changed
    # (keys/destinations.py).
    predates_address_checks = models.BooleanField(default=False, db_default=False, editable=False)
    secret_ciphertext = models.BinaryField(editable=False, default=b"")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["address"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(channel__in=Channel.values), name="usage_alerttarget_channel")
        ]

    def __str__(self) -> str:
        """The address; of a webhook only the host, because the rest of its URL may be a secret."""
        if self.channel == Channel.EMAIL:
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.hostname}/…"

    @property
    def url(self) -> str:
        """The webhook's URL, as `destinations.Saved` wants it; empty for e-mail."""
        return self.address if self.channel == Channel.WEBHOOK else ""


def targets_for(customer: Customer | None) -> QuerySet[AlertTarget]:
    """The targets of a customer's alerts, active or not. None: only targets that have no customer."""
    return AlertTarget.objects.filter(Q(customer=None) | Q(customer=customer))


class Delivery(models.Model):
    """One alert to one target, or to the owner of a virtual key that expires (without a target): retried until it is
    delivered or given up."""

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="deliveries")
    target = models.ForeignKey(AlertTarget, on_delete=models.PROTECT, related_name="deliveries", null=True)
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
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["alert", "target"], name="usage_delivery_once", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return f"{self.alert} to {self.recipient}"

    @property
    def recipient(self) -> str:
        """Who gets it, in words."""
        return "the key's owner" if self.target is None else str(self.target)

    @property
    def state(self) -> str:
        """`delivered`, `given up` or `under way`."""
        return "delivered" if self.delivered_at else "given up" if self.given_up_at else "under way"
