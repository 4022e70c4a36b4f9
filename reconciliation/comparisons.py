"""The table of comparisons: theirs and ours side by side, the difference, and what explains it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.db import models

from keys.models import ProviderKey
from reconciliation.sources import AdminKey, BillFormat

# Both sides are exact: theirs has up to 28 places, ours 12.
MONEY: dict[str, Any] = {"max_digits": 50, "decimal_places": 28, "default": 0}
# What explains a difference, in the order of the columns of pages. The rest is unexplained.
CAUSES = ("other_use", "estimates", "hour_edges", "late_revision", "discount", "price_book", "fees")


class DatedBy(models.TextChoices):
    """To which hour a provider counts a call."""

    ADMISSION = "admission", "its beginning"
    COMPLETION = "completion", "its end"


class Comparison(models.Model):
    """One hour (or day), provider key, model and mode. Money in USD.

    Without a provider key, it is about a key or a use of the organisation that isn't ours: `api_key_id` says which
    (empty: no key), and nothing is compared.

    Attributes:
        hours: 1, or 24 where the provider reports days only.
        mode: service tier, fast mode and residency, such as `standard` or `batch`.
        their_requests: None: the report has no counts.
        estimated_calls: those of our calls whose amounts are estimates.
        unsent_requests: those of their requests that we never sent.
        theirs, ours: money. `their_fees`: the part of `theirs` that is not for tokens; `listed`: the other part before
            discounts, None if the report doesn't say.
        adjustable: USD by which our estimates differ from their report, where an adjustment is offered.
        detail: tokens of both sides by type.
    """

    admin_key = models.ForeignKey(AdminKey, on_delete=models.PROTECT, null=True, related_name="+")
    bill_format = models.ForeignKey(BillFormat, on_delete=models.PROTECT, null=True, related_name="+")
    provider_key = models.ForeignKey(ProviderKey, on_delete=models.PROTECT, null=True, related_name="+")
    api_key_id = models.CharField(max_length=200, blank=True)
    start = models.DateTimeField()
    hours = models.PositiveSmallIntegerField(default=1)
    model = models.CharField(max_length=200, blank=True)
    mode = models.CharField(max_length=100, blank=True)
    dated_by = models.CharField(max_length=20, choices=DatedBy, default=DatedBy.ADMISSION)
    their_requests = models.BigIntegerField(null=True)
    our_requests = models.BigIntegerField(default=0)
    estimated_calls = models.BigIntegerField(default=0)
    unsent_requests = models.BigIntegerField(default=0)
    their_tokens = models.BigIntegerField(default=0)
    our_tokens = models.BigIntegerField(default=0)
    theirs = models.DecimalField(**MONEY)
    their_fees = models.DecimalField(**MONEY)
    listed = models.DecimalField(**(MONEY | {"default": None}), null=True)
    ours = models.DecimalField(**MONEY)
    other_use = models.DecimalField(**MONEY, help_text="requests on this key that we never sent")
    estimates = models.DecimalField(**MONEY, help_text="our estimates, and interrupted calls")
    hour_edges = models.DecimalField(**MONEY, help_text="calls that begin in one hour and end in another")
    late_revision = models.DecimalField(**MONEY, help_text="the provider has changed its figures")
    discount = models.DecimalField(**MONEY, help_text="the contract's discount")
    price_book = models.DecimalField(**MONEY, help_text="their list price isn't that of our price book")
    fees = models.DecimalField(**MONEY, help_text="fees that aren't for tokens")
    unexplained = models.DecimalField(**MONEY)
    adjustable = models.DecimalField(**MONEY)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["start", "model", "mode"]
        default_permissions: ClassVar = ("view",)
        indexes: ClassVar = [
            models.Index(fields=["provider_key", "start"], name="reconciliation_cmp_key"),
            models.Index(fields=["start"], name="reconciliation_cmp_start"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=[
                    *("admin_key", "bill_format", "provider_key", "api_key_id", "start", "hours", "model", "mode"),
                ],
                name="reconciliation_comparison_once",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} {self.model}"

    @property
    def difference(self) -> Decimal:
        """How much more the provider charges than the ledger says."""
        return self.theirs - self.ours
