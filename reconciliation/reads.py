"""The tables of providers' figures as they were read. Append-only: a revised figure is a new read."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from reconciliation.sources import AdminKey, Bill

# Providers give cents with many digits.
MONEY: dict[str, Any] = {"max_digits": 50, "decimal_places": 28}
TOKEN_TYPES = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens"),
    *("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens"),
)


class Report(models.TextChoices):
    """What was read."""

    USAGE = "usage", "usage"
    COST = "cost", "cost"


class Read(models.Model):
    """One hour (or, where a report has none, one day) of a report, at one time.

    Attributes:
        start, end: the time that it is about (UTC).
        refreshed_at: how new the provider's data were; None: the report doesn't say.
        digest: of the figures. `same_as`: the earlier read that has the same ones, so that only that one has rows.
    """

    admin_key = models.ForeignKey(AdminKey, on_delete=models.PROTECT, null=True, related_name="+")
    bill = models.ForeignKey(Bill, on_delete=models.PROTECT, null=True, related_name="+")
    report = models.CharField(max_length=10, choices=Report)
    start = models.DateTimeField()
    end = models.DateTimeField()
    read_at = models.DateTimeField()
    refreshed_at = models.DateTimeField(null=True)
    digest = models.CharField(max_length=64)
    same_as = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        default_permissions: ClassVar = ("view",)
        indexes: ClassVar = [
            models.Index(fields=["admin_key", "report", "start", "id"], name="reconciliation_read_key"),
            models.Index(fields=["start"], name="reconciliation_read_start"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(admin_key=None, bill__isnull=False) | Q(admin_key__isnull=False, bill=None),
                name="reconciliation_read_of_one_source",
            )
        ]

    def __str__(self) -> str:
        return f"{self.report} of {self.start:%Y-%m-%d %H:%M}"

    @property
    def rows_of(self) -> int:
        """The read that has its rows."""
        return self.same_as_id or self.pk


class Dimensions(models.Model):
    """What a row is about. Empty: the report doesn't say, or the usage has none (a key, a model)."""

    read = models.ForeignKey(Read, on_delete=models.PROTECT, related_name="%(class)ss")
    start = models.DateTimeField()
    api_key_id = models.CharField(max_length=200, blank=True)
    model = models.CharField(max_length=200, blank=True)
    service_tier = models.CharField(max_length=40, blank=True)
    speed = models.CharField(max_length=40, blank=True)
    inference_geo = models.CharField(max_length=40, blank=True)

    class Meta:
        abstract = True


class UsageRow(Dimensions):
    """Requests (None: not reported) and tokens."""

    requests = models.BigIntegerField(null=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_input_tokens = models.BigIntegerField(default=0)
    cache_creation_5m_input_tokens = models.BigIntegerField(default=0)
    cache_creation_1h_input_tokens = models.BigIntegerField(default=0)
    web_search_requests = models.BigIntegerField(default=0)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"{self.model} {self.start:%Y-%m-%d %H:%M}"


class CostRow(Dimensions):
    """USD after discounts (`amount`) and before (`list_amount`; None: not reported), for a type of tokens or a fee.

    `token_type` is a column of `UsageRow`, or empty for what isn't priced by tokens. `meter`: the line's own words. A
    bill's row has its meter and `quantity`; the bill's format says which model's tokens these are, when it is compared.
    """

    cost_type = models.CharField(max_length=40)
    token_type = models.CharField(max_length=60, blank=True)
    meter = models.CharField(max_length=300, blank=True)
    amount = models.DecimalField(**MONEY)
    list_amount = models.DecimalField(**MONEY, null=True)
    quantity = models.DecimalField(**MONEY, null=True)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"{self.amount} USD, {self.model} {self.start:%Y-%m-%d %H:%M}"
