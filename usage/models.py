"""Money and tokens: holds while a call runs, one ledger row after it, and the roll-ups that reports read. Holds and
ledger rows name customers, keys and other objects by id, without foreign-key constraints: each would cost a lock at
every admission. These objects are never deleted.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Coalesce, Now

from keys.models import Customer, ProviderKey, Team, VirtualKey

# Django finds an app's models in this module.
from usage.alerts import Alert, AlertTarget, Delivery
from usage.archived import ArchivedCharge, ArchivedMonth
from usage.budgets import Budget, Override, TopUp, Window
from usage.checkpoint_tables import Checkpoint, CheckpointWindow
from usage.credential_uses import CredentialUse
from usage.free_calls import FreeCalls
from usage.key_rules import KeyRules
from usage.levels import SummedPeriod
from usage.limits import Limit, LimitState
from usage.overruns import Overrun
from usage.owner_days import OwnerDay
from usage.price_tables import ExchangeRate, Price
from usage.refusal_rows import Refusal
from usage.restored_copies import RestoredCopy
from usage.retained import Retained
from usage.saved_reports import ReportDelivery, ReportRecipient, ReportSchedule, SavedReport
from usage.workers import Worker

__all__ = [
    "Alert",
    "AlertTarget",
    "ArchivedCharge",
    "ArchivedMonth",
    "Budget",
    "Checkpoint",
    "CheckpointWindow",
    "CredentialUse",
    "Delivery",
    "ExchangeRate",
    "FreeCalls",
    "KeyRules",
    "Limit",
    "LimitState",
    "Override",
    "Overrun",
    "OwnerDay",
    "Price",
    "Refusal",
    "ReportDelivery",
    "ReportRecipient",
    "ReportSchedule",
    "RestoredCopy",
    "Retained",
    "SavedReport",
    "SummedPeriod",
    "TopUp",
    "Window",
    "Worker",
]


class Process(models.Model):
    """A web process that holds money for calls. It counts as alive while its last heartbeat is younger than its lease.

    `arbiter`: the schema of the functions that it works with; empty for versions before there were schemas.
    """

    id = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    arbiter = models.CharField(max_length=63, blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


class ArbiterVersion(models.Model):
    """A schema of the arbiter's functions in this database (usage/functions.py), and when a process last used it."""

    schema = models.CharField(primary_key=True, max_length=63)
    made_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.schema


class Writer(models.Model):
    """The right of one connection of one process to admit and settle. A new connection increments the fence, so that
    groups of an older connection are refused. The reaper deletes the row.
    """

    process = models.UUIDField(primary_key=True)
    fence = models.BigIntegerField()
    groups = models.BigIntegerField()

    def __str__(self) -> str:
        return str(self.process)


class Status(models.TextChoices):
    """How a call ended."""

    COMPLETED = "completed", "completed"
    REFUSED_BY_PROVIDER = "refused_by_provider", "refused by provider"
    FAILED = "failed", "failed"
    CLIENT_DISCONNECTED = "client_disconnected", "client disconnected"
    INTERRUPTED = "interrupted", "interrupted"


class Call(models.Model):
    """The columns that a hold and its ledger row have in common."""

    admitted_at = models.DateTimeField()
    credential = models.BigIntegerField()
    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+")
    customer = models.ForeignKey(Customer, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    labels = models.JSONField(default=dict)
    client_labels = models.JSONField(default=dict)
    endpoint = models.CharField(max_length=40)
    requested_model = models.TextField()
    stream = models.BooleanField()

    class Meta:
        abstract = True


class Hold(Call):
    """The ceiling of what a call may cost its owner, kept from its admission until it is settled. Money in USD.

    It ends with the lease of its process; one of a call that outlives all processes (a batch) has a date instead.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    process = models.UUIDField(db_index=True, null=True)
    expires_at = models.DateTimeField(null=True)
    provider = models.CharField(max_length=20)
    provider_key = models.BigIntegerField(null=True)
    ceiling = models.DecimalField(max_digits=30, decimal_places=12)
    cost_factor = models.DecimalField(
        max_digits=30,
        decimal_places=12,
        null=True,
        help_text="the part of it that the provider charges, if not all of it",
    )
    input_tokens = models.BigIntegerField(help_text="estimated from the body")
    input_cost = models.DecimalField(max_digits=30, decimal_places=12, help_text="of these")
    max_tokens = models.BigIntegerField()
    output_price = models.DecimalField(max_digits=30, decimal_places=12, help_text="USD per million output tokens")
    price_version = models.CharField(max_length=100)

    class Meta:
        verbose_name = "hold"

    def __str__(self) -> str:
        return str(self.id)


# What the owner pays, in queries on rows with `cost` and `charge`. Its SQL twin is usage_owed (arbiter/counters.sql).
OWED = Coalesce("charge", "cost")


class Tokens(models.Model):
    """The categories of tokens and requests that providers bill; thinking is a part of output.

    `cost` is what the provider charges. Budgets count, and people who pay see, `owed` (in queries: `OWED`).
    """

    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    thinking_tokens = models.BigIntegerField(default=0)
    cache_read_input_tokens = models.BigIntegerField(default=0)
    cache_creation_5m_input_tokens = models.BigIntegerField(default=0)
    cache_creation_1h_input_tokens = models.BigIntegerField(default=0)
    web_search_requests = models.BigIntegerField(default=0)
    cost = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    charge = models.DecimalField(
        max_digits=30, decimal_places=12, null=True, help_text="What the owner pays, if not the cost."
    )

    class Meta:
        abstract = True

    @property
    def owed(self) -> Decimal:
        """What the owner pays, in USD."""
        return self.cost if self.charge is None else self.charge


class Split(models.Model):
    """The parts of an amount by category (usage/splits.py). Null: it isn't split, or the charge is the cost."""

    cost_split = ArrayField(models.DecimalField(max_digits=30, decimal_places=12), null=True, editable=False)
    charge_split = ArrayField(models.DecimalField(max_digits=30, decimal_places=12), null=True, editable=False)

    class Meta:
        abstract = True

    @property
    def owed_split(self) -> list[Decimal]:
        """What the owner pays, by category; empty: it isn't split."""
        split: list[Decimal] | None = self.cost_split if self.charge is None else self.charge_split  # type: ignore[attr-defined]
        return split or []


class LedgerEntry(Call, Tokens, Split):
    """One call that reached a provider and may have cost something: inserted once, by settlement, and never edited.

    Partitioned by month over `id`, which is the UUIDv7 of the call's admission. `xid` is the transaction that wrote
    it: roll-ups follow it, since neither ids nor timestamps follow the order of commits.
    """

    id = models.UUIDField(primary_key=True)
    ended_at = models.DateTimeField()
    provider_request_id = models.TextField(blank=True)
    model = models.TextField()
    provider = models.CharField(max_length=20)
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+"
    )
    status = models.CharField(max_length=30, choices=Status)
    http_status = models.SmallIntegerField(null=True)
    error_type = models.TextField(blank=True)
    stop_reason = models.TextField(blank=True)
    iterations = models.JSONField(default=list)
    service_tier = models.TextField(blank=True)
    speed = models.TextField(blank=True)
    inference_geo = models.TextField(blank=True)
    currency = models.CharField(max_length=3, default="USD")
    price_version = models.TextField()
    price_flag = models.CharField(max_length=20, blank=True, help_text="why the cost is not just the list price")
    estimated = models.BooleanField(default=False)
    held = models.DecimalField(max_digits=30, decimal_places=12)
    time_to_first_byte_ms = models.IntegerField(null=True)
    duration_ms = models.IntegerField()
    attempts = models.JSONField(default=list)
    xid = models.TextField(editable=False)

    class Meta:
        managed = False
        db_table = "usage_ledgerentry"
        verbose_name = "ledger row"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return str(self.id)


class Adjustment(Tokens, Split):
    """A correction of a ledger row: the differences, which are added to the row. Append-only."""

    class Reason(models.TextChoices):
        LATE_SETTLEMENT = "late_settlement", "settled after it was taken for interrupted"
        RECONCILIATION = "reconciliation"
        CORRECTION = "correction"
        REPRICING = "repricing", "priced again"

    entry_id = models.UUIDField()
    created_at = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=30, choices=Reason)
    author = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["entry_id"], name="usage_one_late_settlement", condition=models.Q(reason="late_settlement")
            )
        ]

    def __str__(self) -> str:
        return f"{self.entry_id} {self.reason}"


class Measures(Tokens):
    """What roll-ups measure besides tokens and money (usage/measures.py)."""

    calls = models.BigIntegerField(default=0)
    estimated_calls = models.BigIntegerField(default=0)
    unpriced_calls = models.BigIntegerField(default=0, db_default=0)
    our_errors = models.BigIntegerField(default=0, db_default=0)
    caller_errors = models.BigIntegerField(default=0, db_default=0)
    provider_errors = models.BigIntegerField(default=0, db_default=0)
    timed_calls = models.BigIntegerField(default=0, db_default=0)
    duration_ms = models.BigIntegerField(default=0, db_default=0)
    first_byte_ms = models.BigIntegerField(default=0, db_default=0)
    estimated_cost = models.DecimalField(max_digits=30, decimal_places=12, default=0, db_default=0)
    estimated_charge = models.DecimalField(max_digits=30, decimal_places=12, default=0, db_default=0)
    unpriced_cost = models.DecimalField(max_digits=30, decimal_places=12, default=0, db_default=0)
    unpriced_charge = models.DecimalField(max_digits=30, decimal_places=12, default=0, db_default=0)
    cost_split = ArrayField(models.DecimalField(max_digits=30, decimal_places=12), null=True)
    charge_split = ArrayField(models.DecimalField(max_digits=30, decimal_places=12), null=True)
    durations = ArrayField(models.BigIntegerField(), null=True)
    first_bytes = ArrayField(models.BigIntegerField(), null=True)

    class Meta:
        abstract = True


class Rollup(Measures):
    """What calls of a quarter of an hour (UTC, by admission) were, by caller, place and outcome."""

    bucket = models.DateTimeField()
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    team = models.ForeignKey(
        Team, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    model = models.TextField()
    status = models.CharField(max_length=30, choices=Status)
    provider = models.TextField(default="", db_default="")
    service_tier = models.TextField(default="", db_default="")
    speed = models.TextField(default="", db_default="")
    stream = models.BooleanField(default=False, db_default=False)
    cost_centre = models.TextField(default="", db_default="")
    project = models.TextField(default="", db_default="")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["customer", "bucket"], name="usage_rollup_of_customer"),
            models.Index(fields=["team", "bucket"], name="usage_rollup_of_team"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=[
                    *("bucket", "customer", "team", "virtual_key", "provider_key", "model", "status"),
                    *("provider", "service_tier", "speed", "stream", "cost_centre", "project"),
                ],
                name="usage_rollup_cell",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.bucket:%Y-%m-%d %H:%M} {self.model}"


class QuarterTotal(models.Model):
    """The number and cost of all calls in a quarter of an hour (UTC, by admission), by provider key and outcome."""

    bucket = models.DateTimeField()
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    status = models.CharField(max_length=30, choices=Status)
    calls = models.BigIntegerField()
    cost = models.DecimalField(max_digits=30, decimal_places=12)
    charge = models.DecimalField(max_digits=30, decimal_places=12, null=True)

    class Meta:
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["bucket", "provider_key", "status"], name="usage_quartertotal_cell", nulls_distinct=False
            )
        ]
        indexes: ClassVar = [models.Index(fields=["provider_key", "bucket"], name="usage_quartertotal_provider")]

    def __str__(self) -> str:
        return f"{self.bucket:%Y-%m-%d %H:%M} {self.status}"


class DayTotal(Tokens):
    """What `Rollup` has of all calls of a day (UTC, by admission), by provider key, model and outcome. `bucket` is the
    day's midnight."""

    bucket = models.DateTimeField()
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    model = models.TextField()
    status = models.CharField(max_length=30, choices=Status)
    calls = models.BigIntegerField(default=0)
    estimated_calls = models.BigIntegerField(default=0)

    class Meta:
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["bucket", "provider_key", "model", "status"], name="usage_daytotal_cell", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.bucket:%Y-%m-%d} {self.model}"


class RollupState(models.Model):
    """The one row that says how far the roll-ups have read: all transactions below `xid`.

    `whole_since`: those from then on have all dimensions and measures; null: all have. `rebuilt` changes whenever rows
    are deleted and summed again.
    """

    id = models.SmallAutoField(primary_key=True)
    xid = models.TextField(default="0")
    rolled_up_at = models.DateTimeField(null=True)
    whole_since = models.DateTimeField(null=True)
    rebuilt = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"below {self.xid}"
