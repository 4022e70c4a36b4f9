"""Statements: who issues them, to whom, which calls each of them covers, and what it says. See docs/statements.md.

Closings, covers, documents, their lines and files are never changed or deleted; triggers see to it
(billing/sql/statements.sql). Amounts are Decimal; USD unless a field says otherwise.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

# Django finds an app's models in this module.
from billing.archived_covers import ArchivedCover
from billing.currencies import check_currency
from keys.models import Customer, Team, check_time_zone

__all__ = [
    "CREDIT",
    "ArchivedCover",
    "CloseRequest",
    "Closing",
    "Cover",
    "Issuer",
    "Kind",
    "LineKind",
    "Particulars",
    "Statement",
    "StatementFile",
    "StatementLine",
    "check_contacts",
    "check_prefix",
    "money",
]

CREDIT = "CN"


def check_prefix(prefix: str) -> None:
    """Refuse a prefix whose numbers could be those of another issuer's credit notes.

    Raises:
        ValidationError: it ends like the prefix of credit notes.
    """
    if prefix.split("-")[-1] == CREDIT:
        raise ValidationError("A prefix can't end in CN, which marks credit notes.")


def check_contacts(text: str) -> None:
    """Refuse anything but e-mail addresses, separated by commas or lines.

    Raises:
        ValidationError: one isn't an address.
    """
    for address in addresses(text):
        EmailValidator(f"“{address}” is not an e-mail address.")(address)


def addresses(text: str) -> list[str]:
    """The addresses of a field that separates them by commas or lines."""
    return [each.strip() for each in text.replace("\n", ",").split(",") if each.strip()]


class Issuer(models.Model):
    """Who issues statements. Its numbers have no gap: closing takes the next one in its transaction.

    Once it has issued a document, a trigger keeps its prefix, and lets its numbers only grow by one.
    """

    name = models.CharField(max_length=200)
    address = models.TextField(max_length=1000, blank=True)
    prefix = models.CharField(
        max_length=20,
        unique=True,
        validators=[
            RegexValidator(r"^[A-Z0-9]+(-[A-Z0-9]+)*\Z", "Capital letters, digits and hyphens, such as ACME."),
            check_prefix,
        ],
        help_text="Numbers begin with it: ACME makes ACME-00001, and ACME-CN-00001 for credit notes.",
    )
    next_number = models.PositiveIntegerField(
        default=1, db_default=1, validators=[MinValueValidator(1)], help_text="Of the next statement."
    )
    next_credit_number = models.PositiveIntegerField(
        default=1, db_default=1, validators=[MinValueValidator(1)], help_text="Of the next credit note."
    )
    four_eyes = models.BooleanField(
        "four eyes",
        default=False,
        db_default=False,
        help_text="A month closes only when a second person has confirmed it.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["prefix"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class Particulars(models.Model):
    """What statements of a customer say about it, and how they are made. A closing copies them into its documents."""

    customer = models.OneToOneField(Customer, on_delete=models.PROTECT, related_name="particulars")
    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, related_name="+")
    billing_name = models.CharField(max_length=200, blank=True, help_text="Empty: the customer's name.")
    address = models.TextField(max_length=1000, blank=True)
    contacts = models.TextField(
        max_length=2000,
        blank=True,
        validators=[check_contacts],
        help_text="E-mail addresses that get each statement, separated by commas or lines.",
    )
    time_zone = models.CharField(
        max_length=60,
        blank=True,
        validators=[check_time_zone],
        help_text="IANA name (Europe/Berlin): months begin there. Empty: the customer's.",
    )
    currency = models.CharField(
        max_length=3, default="USD", validators=[check_currency], help_text="ISO 4217, such as EUR."
    )
    cost_centre = models.CharField(
        max_length=100, blank=True, help_text="For calls without a label cost_centre. Only the journal uses it."
    )
    debit_account = models.CharField(max_length=100, blank=True, help_text="The ERP's account for the cost.")
    credit_account = models.CharField(max_length=100, blank=True, help_text="The ERP's account for what is passed on.")
    by_team = models.BooleanField(
        "by team", default=False, help_text="A statement for each team, and one for calls without a team."
    )

    class Meta:
        verbose_name = verbose_name_plural = "billing particulars"
        ordering: ClassVar = ["customer__name"]

    def __str__(self) -> str:
        return f"Billing particulars of {self.customer}"

    @property
    def zone(self) -> str:
        """The time zone of its months."""
        return self.time_zone or self.customer.time_zone


class Closing(models.Model):
    """A month of a customer that is closed. It begins where the one before ended, in whichever zone that was.

    `ends_at`: the end of the month in `zone`. A ledger row whose transaction id is `below_xid` or higher came too late
    for it: the next closing or a credit note covers it.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="closings")
    month = models.DateField(help_text="its first day")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    zone = models.CharField(max_length=60)
    below_xid = models.TextField()
    closed_at = models.DateTimeField()
    closed_by = models.CharField(max_length=200)
    confirmed_by = models.CharField(max_length=200, blank=True)

    class Meta:
        default_permissions: ClassVar = ()
        ordering: ClassVar = ["-month", "customer__name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["customer", "month"], name="billing_closing_once")]

    def __str__(self) -> str:
        return f"{self.customer} {self.month:%Y-%m}"


class Cover(models.Model):
    """Which ledger rows and adjustments a closing, or a credit note about it, covers: those of calls that were admitted
    from `starts_at` until before `ends_at`, and written by transactions from `from_xid` until below `below_xid`.

    No two covers of a customer overlap, so each row is covered once.
    """

    closing = models.ForeignKey(Closing, on_delete=models.PROTECT, related_name="covers")
    credit = models.PositiveIntegerField(default=0, help_text="0: of the closing; else of its n-th credit note")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    from_xid = models.TextField()
    below_xid = models.TextField()

    class Meta:
        default_permissions: ClassVar = ()
        ordering: ClassVar = ["closing", "credit", "starts_at"]

    def __str__(self) -> str:
        return f"{self.closing} {self.credit} from {self.starts_at}"


class CloseRequest(models.Model):
    """The first person's wish to close a month, where a second one has to confirm it."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    month = models.DateField()
    asked_by = models.CharField(max_length=200)
    asked_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["customer", "month"], name="billing_closerequest_once")
        ]

    def __str__(self) -> str:
        return f"{self.customer} {self.month:%Y-%m} by {self.asked_by}"


class Kind(models.TextChoices):
    """What a document is."""

    STATEMENT = "statement"
    CREDIT_NOTE = "credit_note", "credit note"


def money(places: int = 12, **more: Any) -> Any:
    """A column for an amount or a price."""
    return models.DecimalField(max_digits=38, decimal_places=places, **more)


class Statement(models.Model):
    """A statement or a credit note.

    `content` is the canonical JSON of all it says but its lines. `hash` is SHA-256 over the whole canonical document
    (billing/documents.py), which contains `previous_hash`, that of the issuer's document before.
    """

    number = models.CharField(max_length=60, unique=True)
    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, related_name="+")
    sequence = models.PositiveIntegerField(help_text="its place among the issuer's documents, from 1")
    kind = models.CharField(max_length=20, choices=Kind)
    closing = models.ForeignKey(Closing, on_delete=models.PROTECT, related_name="statements")
    credit = models.PositiveIntegerField(default=0, help_text="0: a statement; else the n-th credit note of its month")
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="credit_notes")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="statements")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, related_name="statements")
    by_team = models.BooleanField()
    month = models.DateField()
    issued_at = models.DateTimeField()
    currency = models.CharField(max_length=3)
    total = money(4, help_text="in the currency")
    total_usd = money(help_text="exact, as the ledger has it")
    content = models.TextField()
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-month", "number"]
        default_permissions: ClassVar = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["issuer", "sequence"], name="billing_statement_sequence"),
            models.UniqueConstraint(
                fields=["closing", "credit", "team"], name="billing_statement_once", nulls_distinct=False
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["customer", "month"], name="billing_statement_of")]

    def __str__(self) -> str:
        return self.number


class LineKind(models.TextChoices):
    """What a line is about."""

    TOKENS = "tokens"
    WEB_SEARCH = "web_search", "web search"
    FLAT = "flat", "per request"
    REMAINDER = "remainder", "not split by category"
    ADJUSTMENT = "adjustment"
    ROUNDING = "rounding"


class StatementLine(models.Model):
    """A line. Prices are in USD per `unit`, `list_amount`, `discount` and `net` in USD, `amount` in the currency.

    `earlier`: its calls are of a month that was closed before. `refers_to`: the statement that an adjustment corrects.
    `list_price` is null where the price list has no such model.
    """

    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=LineKind)
    team_id = models.BigIntegerField(null=True)
    team = models.CharField(max_length=200, blank=True)
    virtual_key_id = models.BigIntegerField(null=True)
    virtual_key = models.CharField(max_length=200, blank=True)
    cost_centre = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=20, blank=True)
    model = models.TextField(blank=True)
    category = models.CharField(max_length=40, blank=True)
    calls = models.BigIntegerField(default=0)
    quantity = models.BigIntegerField(default=0)
    unit = models.CharField(max_length=20, blank=True)
    list_price = money(18, null=True)
    unit_price = money(18, null=True)
    list_amount = money()
    discount = money()
    net = money()
    amount = money(4)
    estimated = models.BooleanField(default=False)
    earlier = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    refers_to = models.CharField(max_length=60, blank=True)

    class Meta:
        default_permissions: ClassVar = ()
        ordering: ClassVar = ["statement", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["statement", "position"], name="billing_statementline_position")
        ]

    def __str__(self) -> str:
        return f"{self.statement} {self.position}"


class StatementFile(models.Model):
    """A file that was made when a document was issued, such as its PDF, with the SHA-256 of its bytes."""

    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=100)
    content = models.BinaryField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["statement", "name"], name="billing_statementfile_name")
        ]

    def __str__(self) -> str:
        return self.name
