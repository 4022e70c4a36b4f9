"""The terms of callers: virtual keys, and the provider keys that they map to."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now, Upper
from django.utils import timezone

from keys import patterns
from keys.models.answer_bounds import AnswerBounds
from keys.models.customers import Customer, Team
from keys.models.provider_keys import ProviderKey


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
    revoke_reason = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
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
    # The gateway's own key, which no list or form shows: of calls with a provider's own key, or of test calls.
    passthrough = models.BooleanField(default=False, editable=False)
    provider_keys = models.ManyToManyField(ProviderKey, through="VirtualKeyRoute", related_name="virtual_keys")
    revision = models.BigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        indexes: ClassVar = [
            models.Index(
                fields=["cut_streams_at"], name="keys_vk_cut", condition=models.Q(cut_streams_at__isnull=False)
            ),
            models.Index(
                fields=["expires_at"],
                name="keys_vk_expiry",
                condition=models.Q(expires_at__isnull=False, revoked_at=None),
            ),
            # Lists of few keys among many.
            models.Index(fields=["name", "-id"], name="keys_vk_revoked", condition=models.Q(revoked_at__isnull=False)),
            models.Index(fields=["name", "-id"], name="keys_vk_paused", condition=models.Q(active=False)),
            # A member's own keys, by `owner__iexact`.
            models.Index(Upper("owner"), name="keys_vk_of_owner"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["customer", "team", "name"],
                name="keys_virtualkey_name",
                condition=models.Q(revoked_at=None),
                nulls_distinct=False,
            ),
            models.UniqueConstraint(fields=["name"], name="keys_virtualkey_own", condition=models.Q(passthrough=True)),
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
    def is_closed(self) -> bool:
        """Whether its terms, budgets and limits can't be changed: it is revoked, or the gateway's own."""
        return self.revoked_at is not None or self.passthrough

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
