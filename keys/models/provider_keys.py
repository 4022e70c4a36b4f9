"""The accounts at providers that calls go to."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from keys import patterns, provider_kinds


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
