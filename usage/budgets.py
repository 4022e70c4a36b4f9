"""Budgets and limits: what calls may cost, and how many may be made.

The arbiter (usage/arbiter/) keeps the counters. Amounts and counters are in separate rows, so that changing an
amount never waits for calls.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import connection, models
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Now

from keys import patterns
from keys.models import Customer, ProviderKey, Team, VirtualKey

MONEY: Any = {"max_digits": 30, "decimal_places": 12}
# Larger than any real budget, and small enough for the columns.
MOST = Decimal(10) ** 15
# The fields that name the owner of a budget or limit, in the order of the two lowest bits of `Owned.owner`.
OWNERS = ("customer", "team", "virtual_key")
FOUND_BY = [models.Index(fields=[by, "id"], name=f"usage_budget_{by}") for by in ("period", "unit", "enforcement")]


class Owned(models.Model):
    """Shared by budgets and limits: they belong to one customer, team or virtual key, and apply to all its calls or to
    some models only."""

    # Besides its owner and scope, what tells it from others; and what is said of a second one.
    KIND: ClassVar[tuple[str, ...]]
    SECOND: ClassVar[str]

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, blank=True, related_name="%(class)ss")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, blank=True, related_name="%(class)ss")
    virtual_key = models.ForeignKey(
        VirtualKey, on_delete=models.PROTECT, null=True, blank=True, related_name="%(class)ss"
    )
    provider_key = models.ForeignKey(
        ProviderKey,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Only the virtual key's calls that go to this provider key. Empty: all.",
    )
    model_patterns = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check]),
        default=list,
        blank=True,
        verbose_name="models",
        help_text="Names and patterns (claude-*) of the models that it is for, separated by commas. Empty: all.",
    )
    active = models.BooleanField(default=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Encodes owners of every kind in one number, so that one index look-up finds what applies to a call.
    owner = models.GeneratedField(
        expression=Case(
            When(customer__isnull=False, then=F("customer") * Value(4)),
            When(team__isnull=False, then=F("team") * Value(4) + Value(1)),
            default=F("virtual_key") * Value(4) + Value(2),
        ),
        output_field=models.BigIntegerField(),
        db_persist=True,
    )

    class Meta:
        abstract = True
        indexes: ClassVar = [
            models.Index(fields=["owner"], name="usage_%(class)s_owner", condition=Q(active=True)),
            models.Index(fields=["id"], name="usage_%(class)s_off", condition=Q(active=False)),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(
                    Q(customer__isnull=False, team__isnull=True, virtual_key__isnull=True)
                    | Q(customer__isnull=True, team__isnull=False, virtual_key__isnull=True)
                    | Q(customer__isnull=True, team__isnull=True, virtual_key__isnull=False)
                ),
                name="usage_%(class)s_one_owner",
                violation_error_message="It belongs to exactly one customer, team or virtual key.",
            ),
            models.CheckConstraint(
                condition=Q(provider_key__isnull=True) | Q(virtual_key__isnull=False),
                name="usage_%(class)s_provider_key",
                violation_error_message="Only what belongs to a virtual key can be for one of its provider keys.",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=True) | Q(active=False),
                name="usage_%(class)s_deleted",
                violation_error_message="What is deleted is not active.",
            ),
        ]

    def owned_by(self) -> str:
        """The owner in words: `team Acme / Research`, `virtual key alice of Acme / Research`."""
        if self.virtual_key is not None:
            return f"virtual key {self.virtual_key.full_name}"
        return f"team {self.team}" if self.team is not None else f"customer {self.customer}"

    def clean(self) -> None:
        """Refuse a second one of the same scope, and one of a key whose terms can't be changed.

        Raises:
            ValidationError: with a sentence for the person who typed it.
        """
        if not self.active or type(self)._default_manager.filter(pk=self.pk, active=True).exists():
            return
        if self.virtual_key is not None and self.virtual_key.is_closed:
            raise ValidationError({"virtual_key": f"The virtual key {self.virtual_key_id} can't have more of these."})
        if any(patterns.alike(other.model_patterns, self.model_patterns) for other in self.alike()):
            raise ValidationError(self.SECOND)

    def alike(self) -> QuerySet[Self]:
        """The active ones with the same owner, provider key and kind."""
        same = ("customer_id", "team_id", "virtual_key_id", "provider_key_id", *self.KIND)
        rows = type(self)._default_manager.filter(**{name: getattr(self, name) for name in same}, active=True)
        return rows.exclude(pk=self.pk)

    def payer(self) -> Customer:
        """The customer that pays for the calls. Windows follow this customer's calendar."""
        owner = self.team or self.virtual_key
        customer = owner.customer if owner is not None else self.customer
        assert customer is not None
        return customer

    def delete_softly(self) -> None:
        """Stop applying it to new calls. Calls that already hold money in it are still settled there."""
        type(self)._default_manager.filter(pk=self.pk, deleted_at=None).update(active=False, deleted_at=Now())


class Unit(models.TextChoices):
    """What a budget counts. Tokens are all tokens that a model reads (from caches too) and writes."""

    USD = "usd", "USD"
    TOKENS = "tokens", "tokens"


class Period(models.TextChoices):
    """The length of a budget's windows. `none` is prepaid: one endless window, limited by the sum of its top-ups."""

    MINUTE = "minute", "minute"
    HOUR = "hour", "hour"
    DAY = "day", "day"
    WEEK = "week", "week"
    MONTH = "month", "month"
    QUARTER = "quarter", "quarter"
    YEAR = "year", "year"
    NONE = "none", "none (prepaid)"


def length(period: str) -> str:
    """A period after an amount: `a month`, `an hour`, `prepaid`."""
    if period == Period.NONE:
        return "prepaid"
    return f"an {period}" if period == Period.HOUR else f"a {period}"


class Enforcement(models.TextChoices):
    """What happens to a call that may exceed the budget."""

    HARD = "hard", "hard: refuse what may not fit"
    SOFT = "soft", "soft: alert and let pass"
    EXPECTED = "expected", "expected: hold what such calls have cost lately, refuse what may not fit"


class Budget(Owned):
    """What calls may cost in a window. A change of the amount applies from the next admission on.

    A trigger prevents changes of owner, unit, period and `rolling`, which would make the counters meaningless. The
    amount of a prepaid budget is the sum of its top-ups; a trigger keeps it up to date.
    """

    KIND = ("unit", "period", "rolling")
    SECOND = "This owner already has a budget with this unit, period and scope: change that one."

    unit = models.CharField(max_length=10, choices=Unit, default=Unit.USD)
    amount = models.DecimalField(**MONEY, default=0, validators=[MinValueValidator(0)])
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    rolling = models.BooleanField(
        default=False, help_text="Windows begin with the first use, instead of with the customer's calendar."
    )
    enforcement = models.CharField(max_length=10, choices=Enforcement, default=Enforcement.HARD)
    thresholds = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1)]),
        default=list,
        blank=True,
        help_text="Percentages of the amount at which to alert: 50, 80, 100.",
    )

    class Meta(Owned.Meta):
        abstract = False
        indexes: ClassVar = [*Owned.Meta.indexes, *FOUND_BY]
        constraints: ClassVar = [
            *Owned.Meta.constraints,
            models.CheckConstraint(
                condition=Q(unit__in=Unit.values)
                & Q(period__in=Period.values)
                & Q(enforcement__in=Enforcement.values)
                & ~Q(period=Period.NONE, rolling=True),
                name="usage_budget_kind",
                violation_error_message="A prepaid budget has no windows that could roll.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.terms()} for {self.owned_by()}"

    def terms(self) -> str:
        """The amount and period in words: `$100 a month`, `5,000,000 tokens prepaid`."""
        exact = self.amount.normalize()
        # People write $0.50, but $100.
        amount = f"{exact:,.2f}" if exact.as_tuple().exponent == -1 else f"{exact:,f}"
        amount = f"${amount}" if self.unit == Unit.USD else f"{amount} tokens"
        return f"{amount} {length(self.period)}"

    def particulars(self) -> str:
        """The settings that differ from the default, to append to its name: `, soft, rolling, for claude-opus-*`."""
        said = [
            self.enforcement if self.enforcement != Enforcement.HARD else "",
            "rolling" if self.rolling else "",
            f"for {' '.join(self.model_patterns)}" if self.model_patterns else "",
            f"by {self.provider_key}" if self.provider_key else "",
            f"alerts at {', '.join(map(str, self.thresholds))} %" if self.thresholds else "",
        ]
        return "".join(f", {part}" for part in said if part)

    def clean(self) -> None:
        """Refuse values that can only be a mistake.

        Raises:
            ValidationError: with a sentence for the person who typed it.
        """
        check_amount(self.unit, self.amount)
        if self._state.adding and self.period == Period.NONE and self.amount:
            raise ValidationError({"amount": "the amount of a prepaid budget is the sum of its top-ups: leave it at 0"})
        super().clean()

    def top_up(self, amount: Decimal, *, reason: str, author: str) -> TopUp:
        """Add to a prepaid budget; a negative amount reduces it.

        Raises:
            ValidationError: the budget isn't prepaid, or the amount or reason is empty.
        """
        if self.period != Period.NONE:
            raise ValidationError("only a prepaid budget can be topped up: raise this budget's amount, or override it")
        top_up = TopUp(budget=self, amount=amount, reason=reason, author=author)
        top_up.full_clean()
        top_up.save()
        self.refresh_from_db(fields=["amount"])
        return top_up

    def override(
        self, amount: Decimal, *, windows: int | None = None, until: Any = None, reason: str, author: str
    ) -> Override:
        """Replace the amount from now on: for a number of windows, counting the current one, or until a point in time.

        Raises:
            ValidationError: `windows` and `until` are both missing or both given, or the budget has no windows.
        """
        if (windows is None) == (until is None):
            raise ValidationError("give either a number of windows or an end (until)")
        with connection.cursor() as cursor:
            cursor.execute("SELECT usage_now(), usage_windows_end(%s, %s)", [self.pk, windows])
            now, end = cursor.fetchone()
        if windows is not None and end is None:
            raise ValidationError("a prepaid budget has no windows: give an end (until)")
        override = Override(
            budget=self,
            amount=amount,
            windows=windows,
            starts_at=now,
            until=end if until is None else until,
            reason=reason,
            author=author,
        )
        override.full_clean()
        override.save()
        return override


def check_amount(unit: str, amount: Decimal | None) -> None:
    """Check that an amount isn't too large, and that one of tokens is whole.

    Raises:
        ValidationError: it is too large, or a fraction.
    """
    if amount is not None and abs(amount) > MOST:
        raise ValidationError({"amount": f"An amount can be at most {MOST:f}."})
    if unit == Unit.TOKENS and amount is not None and amount % 1:
        raise ValidationError({"amount": "An amount of tokens must be a whole number."})


class Recorded(models.Model):
    """A change of what a budget allows: by which author, when, why, and the amount in its unit. Append-only."""

    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    budget: models.ForeignKey[Budget, Budget]
    amount: models.DecimalField[Decimal, Decimal]

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Refuse an amount that the budget's unit doesn't allow.

        Raises:
            ValidationError: with a sentence for the person who typed it.
        """
        budget: Budget | None = getattr(self, "budget", None)
        if budget is not None:
            check_amount(budget.unit, self.amount)


class TopUp(Recorded):
    """An amount added to a prepaid budget, in its unit; a negative one is a correction."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="top_ups")
    amount = models.DecimalField(**MONEY)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(amount=0),
                name="usage_topup_amount",
                violation_error_message="The amount of a top-up can't be zero.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f}: {self.reason}"


class Override(Recorded):
    """An amount that replaces a budget's for a time. If several overlap, the one created last applies."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="overrides")
    amount = models.DecimalField(**MONEY, validators=[MinValueValidator(0)])
    starts_at = models.DateTimeField()
    until = models.DateTimeField()
    windows = models.PositiveIntegerField(null=True, blank=True, help_text="Number of windows that it was created for.")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["budget", "until"], name="usage_override_current")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(until__gt=F("starts_at")),
                name="usage_override_span",
                violation_error_message="It must end after it begins.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} until {self.until:%Y-%m-%d %H:%M} UTC"


class Window(models.Model):
    """A time span of a budget, with what is spent and held in it. The arbiter creates it on first use; its counters can
    be derived from the ledger and the holds. `until` is None for a window that never ends."""

    pk = models.CompositePrimaryKey("budget_id", "start")
    budget = models.ForeignKey(Budget, on_delete=models.DO_NOTHING, db_constraint=False, related_name="windows")
    start = models.DateTimeField()
    until = models.DateTimeField(null=True)
    spent = models.DecimalField(**MONEY)
    held = models.DecimalField(**MONEY)

    def __str__(self) -> str:
        return f"budget {self.budget_id} from {self.start:%Y-%m-%d %H:%M} UTC"
