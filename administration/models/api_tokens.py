"""Tokens for the administration's REST API, and the answers that repeated requests get."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class ApiToken(models.Model):
    """A token with which a program uses the REST API for a person (administration/rest/tokens.py).

    It may do what its scopes say and the person may do as well. Stored as HMAC-SHA-256 under a pepper; people recognise
    it by `first` and `last`.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=200, help_text="What uses it, such as terraform or the nightly report.")
    digest = models.BinaryField(unique=True, max_length=32, editable=False)
    pepper = models.CharField(max_length=16, editable=False)
    first = models.CharField(max_length=20, editable=False)
    last = models.CharField(max_length=8, editable=False)
    scopes = ArrayField(models.CharField(max_length=40))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(help_text="UTC. At most a year from now.")
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.CharField(max_length=60, blank=True, default="", db_default="", editable=False)

    class Meta:
        verbose_name = "API token"
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "name"],
                name="administration_apitoken_name",
                condition=models.Q(revoked_at=None),
                violation_error_message="This person already has a token of this name.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ends(self) -> str:
        """The first and last characters, by which people recognise it."""
        return f"{self.first}…{self.last}"

    @property
    def state(self) -> str:
        """`revoked`, `expired` or `active`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at <= timezone.now() else "active"


class RestAnswer(models.Model):
    """The answer to a request with an `Idempotency-Key`, for repetitions of the request within a day.

    `body` is empty if the answer had a secret. Then `location` names what was created, if it has a URL.
    """

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    request = models.BinaryField(max_length=32)
    at = models.DateTimeField(db_default=Now(), db_index=True)
    status = models.PositiveSmallIntegerField()
    body = models.TextField()
    location = models.CharField(max_length=200)
    etag = models.CharField(max_length=80)
    has_secret = models.BooleanField()

    class Meta:
        verbose_name = "stored answer of the REST API"
        verbose_name_plural = "stored answers of the REST API"
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["token", "key"], name="administration_restanswer_once"),
        ]

    def __str__(self) -> str:
        return f"answer {self.pk}"
