"""Where a provider's figures come from: admin keys that read its reports, and bills that people upload."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from keys.models import ProviderKey

# Anthropic allows 60 requests a minute for each organisation. Other programs of the deployment may need some.
USUAL_RATE, MOST_RATE = 30, 60


class ReportsOf(models.TextChoices):
    """Providers whose reports an admin key reads."""

    ANTHROPIC = "anthropic", "Anthropic"
    OPENAI = "openai", "OpenAI"


class Kind(models.TextChoices):
    """Which reports an admin key can read."""

    ANALYTICS = "analytics", "Usage and Cost Analytics API"
    OLDER = "older", "older usage and cost reports, without request counts"
    OPENAI = "openai", "usage and costs"


class AdminKey(models.Model):
    """A key that reads an organisation's usage and cost reports. Its secret is encrypted and never shown."""

    name = models.CharField(max_length=200, unique=True)
    provider = models.CharField(max_length=20, choices=ReportsOf)
    base_url = models.CharField(max_length=500, blank=True, help_text="Empty: the provider's own address.")
    secret_ciphertext = models.BinaryField(editable=False, default=b"")
    secret_hint = models.CharField(max_length=20, blank=True, editable=False)
    active = models.BooleanField(default=True, help_text="Its reports are read.")
    requests_a_minute = models.PositiveSmallIntegerField(
        default=USUAL_RATE, validators=[MinValueValidator(1), MaxValueValidator(MOST_RATE)]
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # What reading has shown.
    kind = models.CharField("reports", max_length=20, choices=Kind, blank=True, editable=False)
    problem = models.CharField(max_length=300, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    read_at = models.DateTimeField("last read", null=True, editable=False)
    # One worker reads at a time: the one that has claimed the key until then. No request is sent before `next_at`.
    claimed_until = models.DateTimeField(null=True, editable=False)
    next_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "admin key"

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The address, for `destinations.Saved`."""
        return self.base_url

    @property
    def predates_address_checks(self) -> bool:
        """False: addresses of admin keys were always checked."""
        return False


class ReportedKey(models.Model):
    """An API key as its provider names it, and the provider key of ours that it is.

    Attributes:
        hint: the first and last characters of its secret.
        provider_key: found by the hint, or chosen by a person (`chosen`). None: it isn't ours, or several fit.
        candidates: how many provider keys fit the hint.
    """

    admin_key = models.ForeignKey(AdminKey, on_delete=models.PROTECT, related_name="reported_keys")
    api_key_id = models.CharField("the provider's id", max_length=200)
    name = models.CharField(max_length=200, blank=True)
    hint = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=40, blank=True)
    provider_key = models.ForeignKey(ProviderKey, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    chosen = models.BooleanField(default=False)
    candidates = models.PositiveIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["admin_key", "name", "api_key_id"]
        verbose_name = "reported key"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["admin_key", "api_key_id"], name="reconciliation_reportedkey_once")
        ]

    def __str__(self) -> str:
        return self.name or self.api_key_id


class BillFormat(models.Model):
    """How to read a file of a cloud's bill: which columns say what, and which meters are which model's tokens.

    Attributes:
        columns: the file's column names by what they say (`bill_columns.WANTED`).
        meters: a list of `{"pattern", "model", "token_type"}`; the first pattern that fits a line's meter counts.
        tokens_in_unit: tokens of one unit of the quantity, such as 1,000,000 where it counts millions.
    """

    name = models.CharField(max_length=200, unique=True)
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.PROTECT, related_name="+", help_text="Whose calls the bill is about."
    )
    columns = models.JSONField(default=dict)
    meters = models.JSONField(default=list, blank=True)
    tokens_in_unit = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "bill format"

    def __str__(self) -> str:
        return self.name


class Bill(models.Model):
    """A file that was uploaded. The same file is taken once; a later one replaces the days that it has."""

    format = models.ForeignKey(BillFormat, on_delete=models.PROTECT, related_name="bills")
    filename = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField()
    lines = models.PositiveIntegerField()
    first_day = models.DateField()
    last_day = models.DateField()
    amount = models.DecimalField(max_digits=50, decimal_places=28, help_text="USD")
    uploaded_at = models.DateTimeField(db_default=Now())
    author = models.CharField(max_length=200)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(lines__gt=0), name="reconciliation_bill_has_lines"),
        ]

    def __str__(self) -> str:
        return self.filename
