"""Models of callers (customers, teams, virtual keys, credentials) and of what they call (provider keys, aliases)."""

from __future__ import annotations

import zoneinfo
from datetime import timedelta
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from keys import patterns, provider_kinds

# Django finds an app's models in this module.
from keys.audit.models import AuditEvent, AuditName, AuditSeal
from keys.model_names import fold

__all__ = ["AuditEvent", "AuditName", "AuditSeal"]


class Gateway(models.Model):
    """The one row that describes the whole gateway. `catalogue_revision` grows with every change to a provider key."""

    id = models.SmallAutoField(primary_key=True)
    paused = models.BooleanField(default=False, help_text="Refuse every call until this is switched off.")
    catalogue_revision = models.BigIntegerField(default=1, editable=False)

    class Meta:
        verbose_name_plural = "gateway"

    def __str__(self) -> str:
        return "the whole gateway"


def check_time_zone(name: str) -> None:
    """Refuse anything but a place's time zone and UTC. PostgreSQL reads CET and the like as a fixed offset all year.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    if name not in zoneinfo.available_timezones() or ("/" not in name and name != "UTC"):
        raise ValidationError(
            "“%(name)s” is not the IANA time zone of a place, such as Europe/Berlin", params={"name": name}
        )


class Language(models.TextChoices):
    """The languages of refusals by budgets and limits (messages_api/locale)."""

    ENGLISH = "en", "English"
    GERMAN = "de", "Deutsch"
    FRENCH = "fr", "Français"
    SPANISH = "es", "Español"
    ITALIAN = "it", "Italiano"
    PORTUGUESE = "pt", "Português"
    DUTCH = "nl", "Nederlands"
    POLISH = "pl", "Polski"
    JAPANESE = "ja", "日本語"
    CHINESE = "zh-hans", "简体中文"


class Customer(models.Model):
    """A company or cost centre that is billed."""

    name = models.CharField(max_length=200, unique=True)
    paused = models.BooleanField(default=False, help_text="Refuse the calls of every key of this customer.")
    time_zone = models.CharField(
        max_length=60,
        default="UTC",
        db_default="UTC",
        validators=[check_time_zone],
        help_text="IANA name (Europe/Berlin): days, months and years of its budgets begin there.",
    )
    fiscal_year_month = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(12)],
        help_text="First month of its fiscal year, 1 to 12; quarters begin with it.",
    )
    language = models.CharField(
        max_length=10,
        choices=Language,
        default=Language.ENGLISH,
        db_default=Language.ENGLISH,
        help_text="Language in which a refusal by a budget or limit gives its reason.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


# The most that a request may ask for (messages_api/body.py).
MOST_TOKENS = 10_000_000


def some_tokens(name: str, help_text: str) -> models.PositiveIntegerField[int | None, int | None]:
    """A field for a number of tokens, which may be empty."""
    bounds = [MinValueValidator(1), MaxValueValidator(MOST_TOKENS)]
    return models.PositiveIntegerField(name, null=True, blank=True, validators=bounds, help_text=help_text)


class AnswerBounds(models.Model):
    """The default and the ceiling for `max_tokens`, of a virtual key or of all keys of a team."""

    max_tokens = some_tokens(
        "ceiling for max_tokens", "A request that asks for more is refused. The lowest one counts."
    )
    default_max_tokens = some_tokens(
        "default for max_tokens", "For requests that name none. The key's own goes before its team's."
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Refuse a default above the ceiling."""
        if self.max_tokens and self.default_max_tokens and self.default_max_tokens > self.max_tokens:
            raise ValidationError(
                f"the default for max_tokens ({self.default_max_tokens}) is above the ceiling ({self.max_tokens}): "
                "lower the default, or raise the ceiling"
            )


class TeamManager(models.Manager["Team"]):
    """Loads each team with its customer, because a team's name is shown after its customer's."""

    def get_queryset(self) -> models.QuerySet[Team]:
        return super().get_queryset().select_related("customer")


class Team(AnswerBounds):
    """A group within a customer that shares virtual keys.

    Two customers may have teams of the same name. So people see `Customer / Team`, and programs use the name.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="teams")
    name = models.CharField(max_length=200)
    paused = models.BooleanField(default=False, help_text="Refuse the calls of every key of this team.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = TeamManager()

    class Meta:
        ordering: ClassVar = ["customer__name", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["customer", "name"], name="keys_team_name")]

    def __str__(self) -> str:
        return f"{self.customer} / {self.name}"


def patience(what: str) -> models.FloatField[float | None, float | None]:
    """A field for a timeout in seconds."""
    bounds = [MinValueValidator(0.1), MaxValueValidator(86_400)]
    return models.FloatField(
        null=True, blank=True, validators=bounds, help_text=f"Seconds {what}. Empty: the deployment's setting."
    )


class ProviderKey(models.Model):
    """Our account with a provider: the address to call, and the secret to call it with (encrypted).

    Its organisation and workspace are learned from answers (keys/accounts.py). When the provider, the address or the
    secret changes, a trigger clears them, because it may be another account then.
    """

    name = models.CharField(max_length=200, unique=True)
    provider = models.CharField(max_length=20, choices=provider_kinds.choices)
    base_url = models.CharField(max_length=500, blank=True, help_text="Empty: the provider's own address.")
    # The base URL predates the check of addresses, so it works even if it is private, until it is changed
    # (keys/destinations.py).
    predates_address_checks = models.BooleanField(default=False, db_default=False, editable=False)
    region = models.CharField(
        max_length=50,
        blank=True,
        default="",
        db_default="",
        help_text="Where a cloud's models are called (eu-central-1, europe-west1, global). Empty elsewhere.",
    )
    project = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The project that is billed, at clouds that have projects. Empty: the project of the secret.",
    )
    secret_ciphertext = models.BinaryField(editable=False, default=b"")
    secret_hint = models.CharField(max_length=20, blank=True, editable=False)
    model_patterns = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check]),
        default=list,
        blank=True,
        verbose_name="models",
        help_text="Names and patterns (claude-*) of the models that it serves, separated by commas. Empty: all.",
    )
    active = models.BooleanField(default=True)
    connect_seconds = patience("to connect")
    first_byte_seconds = patience("from the end of a request to the first byte of its answer")
    between_bytes_seconds = patience("between two pieces of an answer")
    total_seconds = patience("for a call, its answer included")
    retry_unanswered = models.BooleanField(
        "retry what was sent and never answered",
        default=False,
        db_default=False,
        help_text="The provider may bill such a request, so its first attempt is charged at its ceiling.",
    )
    organization_id = models.TextField(
        "organisation",
        blank=True,
        editable=False,
        help_text="The provider's own name for the account, learned from its answers.",
    )
    workspace_id = models.TextField("workspace", blank=True, editable=False, help_text="Likewise.")
    account_learned_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The address, for `destinations.Saved`."""
        return self.base_url

    @property
    def kind(self) -> type[provider_kinds.ProviderKind]:
        """The facts about its provider."""
        return provider_kinds.find(self.provider)

    def serves(self, model: str) -> bool:
        """Whether a call for this model may go to this provider key."""
        return not self.model_patterns or patterns.matches(self.model_patterns, model)


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


class ModelAlias(models.Model):
    """The deployment's own name for a provider's model, like `fast` for `anthropic/claude-haiku-4-5`."""

    name = models.CharField(max_length=200, unique=True, validators=[patterns.check_name])
    target = models.CharField(
        max_length=200,
        validators=[patterns.check_name],
        help_text="What it stands for: a model, or provider/model (anthropic/claude-haiku-4-5).",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse aliases of aliases, and aliases that differ only in case.

        With either, a list of allowed models could mean more than one model.
        """
        others = list(ModelAlias.objects.exclude(pk=self.pk))
        names = {fold(other.name): other.name for other in others}
        if names.get(fold(self.name), self.name) != self.name:
            raise ValidationError(
                {"name": f"“{names[fold(self.name)]}” exists, and case makes no difference: choose another name."}
            )
        if fold(self.target) in {*names, fold(self.name)}:
            raise ValidationError({"target": f"“{self.target}” is an alias itself: name the model that it stands for."})
        if fold(self.name) in {fold(other.target) for other in others}:
            raise ValidationError(
                {"name": f"Another alias stands for “{self.name}”, which can't be an alias then: choose another name."}
            )


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


class VirtualKey(AnswerBounds):
    """The terms of a caller: who pays, and which models and provider keys it may use. Its secrets are credentials.

    A trigger raises `revision` with every change to the row or to its provider keys. From that, the arbiter knows when
    a process uses an older version, and rejects it.
    """

    name = models.CharField(max_length=200, db_index=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="virtual_keys")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="virtual_keys", null=True, blank=True)
    owner = models.CharField(max_length=200, blank=True, help_text="The person or service that answers for it.")
    active = models.BooleanField(default=True, help_text="If switched off, its calls are refused.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="UTC. Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    cut_streams_at = models.DateTimeField(null=True, blank=True, editable=False)
    allowed_models = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check]),
        default=list,
        blank=True,
        help_text="Names and patterns (claude-*), separated by commas. Empty: all that its provider keys serve.",
    )
    denied_models = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check]),
        default=list,
        blank=True,
        help_text="Names and patterns, separated by commas; they win over the allowed ones.",
    )
    fallback_models = ArrayField(
        models.CharField(max_length=200, validators=[patterns.check_name]),
        default=list,
        db_default=[],
        blank=True,
        help_text="Models to try in turn if the requested one can't answer, separated by commas.",
    )
    adaptive_weights = models.BooleanField(
        default=False,
        db_default=False,
        help_text="A provider key that fails often or is slow to answer gets fewer conversations.",
    )
    labels = models.JSONField(
        default=dict, blank=True, help_text='Carried by its ledger rows: {"cost_centre": "4711", "project": "atlas"}.'
    )
    passthrough = models.BooleanField(default=False, editable=False)
    provider_keys = models.ManyToManyField(ProviderKey, through="VirtualKeyRoute", related_name="virtual_keys")
    revision = models.BigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        indexes: ClassVar = [
            models.Index(
                fields=["cut_streams_at"], name="keys_vk_cut", condition=models.Q(cut_streams_at__isnull=False)
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["customer", "team", "name"],
                name="keys_virtualkey_name",
                condition=models.Q(revoked_at=None),
                nulls_distinct=False,
            ),
            models.UniqueConstraint(
                fields=["passthrough"], name="keys_virtualkey_passthrough", condition=models.Q(passthrough=True)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def belongs_to(self) -> str:
        """The owner: `Acme / Research`, or `Acme` for a key without a team."""
        return str(self.team or self.customer)

    @property
    def full_name(self) -> str:
        """The name with the owner: `alice of Acme / Research`."""
        return f"{self.name} of {self.belongs_to}"

    def allows(self, model: str) -> bool:
        """Whether its allow-list and deny-list permit this model."""
        return patterns.allows(self.allowed_models, self.denied_models, model)

    @property
    def state(self) -> str:
        """`revoked`, `expired`, `paused` or `active`. A paused team or customer doesn't show here."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= timezone.now():
            return "expired"
        return "active" if self.active else "paused"


class VirtualKeyRoute(models.Model):
    """A provider key that a virtual key maps to. `weight` sets its share of the calls."""

    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.CASCADE, related_name="routes")
    provider_key = models.ForeignKey(ProviderKey, on_delete=models.PROTECT, related_name="routes")
    weight = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["virtual_key", "provider_key"], name="keys_route_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider_key} × {self.weight}"


class CredentialKind(models.TextChoices):
    """The kinds of credentials."""

    VIRTUAL_KEY = "virtual_key", "virtual key"
    GATEWAY_TOKEN = "gateway_token", "gateway token"
    PASSTHROUGH = "passthrough", "provider's own key, passed through"


class Credential(models.Model):
    """A secret of a virtual key, stored as HMAC-SHA-256 under a pepper. People recognise it by `first` and `last`."""

    kind = models.CharField(max_length=20, choices=CredentialKind)
    name = models.CharField(max_length=200, blank=True)
    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.CASCADE, related_name="credentials")
    digest = models.BinaryField(unique=True, max_length=32, editable=False)
    pepper = models.CharField(max_length=16, editable=False)
    first = models.CharField(max_length=20, editable=False)
    last = models.CharField(max_length=8, editable=False, db_index=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["virtual_key", "name"],
                name="keys_token_name",
                condition=models.Q(kind=CredentialKind.GATEWAY_TOKEN, revoked_at=None),
            )
        ]

    def __str__(self) -> str:
        return f"{self.first}…{self.last}"


class GatewayToken(Credential):
    """A credential with which a person or service calls as a virtual key. A proxy model, for its own admin pages."""

    class Meta:
        proxy = True
        verbose_name = "gateway token"


# How long a network is remembered from which a user has signed in.
SIGN_INS_REMEMBERED = timedelta(days=90)


class SignInCount(models.Model):
    """A count of failed sign-ins: of a network, of a user, or of a user from a network (keys/sign_in.py).

    `subject` is a digest of what is counted. At `forgotten_at`, the last of the failures expires.
    """

    subject = models.CharField(max_length=64, primary_key=True)
    forgotten_at = models.DateTimeField(db_index=True)
    succeeded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.subject

    @classmethod
    def forget_past(cls) -> None:
        """Delete expired counts."""
        now = timezone.now()
        old = models.Q(succeeded_at=None) | models.Q(succeeded_at__lt=now - SIGN_INS_REMEMBERED)
        cls.objects.filter(old, forgotten_at__lt=now).delete()
