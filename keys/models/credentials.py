"""The secrets of virtual keys."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from keys.models.virtual_keys import VirtualKey


class CredentialKind(models.TextChoices):
    """The kinds of credentials."""

    VIRTUAL_KEY = "virtual_key", "virtual key"
    GATEWAY_TOKEN = "gateway_token", "gateway token"
    PASSTHROUGH = "passthrough", "provider's own key, passed through"
    TEST = "test", "test calls of provider keys"


# No caller can present a credential of these kinds: it has no secret.
WITHOUT_SECRET = (CredentialKind.PASSTHROUGH, CredentialKind.TEST)


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
