"""What is stored at a provider for a key or team: batches, files, and what binds a conversation to an account.

A provider only knows its own account. These tables say who owns a batch or a file, and lists are served from them.
Like holds, rows name keys and teams without foreign-key constraints: keys and teams are never deleted.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from keys.models import ProviderKey, Team, VirtualKey

DELETED_AT_ONCE = 10_000


class AtProvider(models.Model):
    """Something that is stored at a provider: the key that created it, and the account that has it.

    `organization_id` and `workspace_id` are the provider's, from its headers; empty if the headers lack them.
    """

    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+")
    provider_key = models.ForeignKey(
        ProviderKey, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+"
    )
    organization_id = models.TextField(blank=True)
    workspace_id = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True


class File(AtProvider):
    """A file at a provider. It belongs to the team of the key that uploaded it or whose model made it, or to the key
    itself if that has no team.

    `described` is the provider's JSON, unchanged; empty for a file that a model made, until a client asks for it.
    """

    id = models.TextField(primary_key=True)
    described = models.TextField(blank=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["team", "-created_at", "id"], name="messages_api_file_team"),
            models.Index(fields=["virtual_key", "-created_at", "id"], name="messages_api_file_key"),
        ]

    def __str__(self) -> str:
        return self.id


class Binding(AtProvider):
    """Something in a conversation that only one account understands: a container, a signature (as a digest), or a
    conversation that the provider keeps, by its last answer (kind `thread`, relay/bindings.py)."""

    class Kind(models.TextChoices):
        CONTAINER = "container", "container"
        THREAD = "thread", "thread"
        SIGNATURE = "signature", "signature"

    kind = models.CharField(max_length=20, choices=Kind)
    name = models.TextField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["kind", "name"], name="messages_api_binding_name")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @classmethod
    def forget_expired(cls) -> None:
        """Delete expired bindings, in short transactions."""
        expired = cls.objects.filter(expires_at__lt=timezone.now())
        while ids := list(expired.values_list("pk", flat=True)[:DELETED_AT_ONCE]):
            expired.filter(pk__in=ids).delete()


class Batch(AtProvider):
    """A message batch, owned by the virtual key that created it.

    `id` is also the id of the call that created it, and of the hold. The hold has no process: it lasts until every
    request is settled, or until `usage_hold.expires_at`.

    The row is written before the provider gets the batch. If it is unknown whether the provider created the batch
    (`process` is gone or null while the state is `creating`), stored/batch_upkeep.py searches for it at the provider.
    """

    class State(models.TextChoices):
        CREATING = "creating", "being created"
        RUNNING = "running", "running"
        SETTLED = "settled", "settled"
        EXPIRED = "expired", "expired before its results were known"

    id = models.UUIDField(primary_key=True)
    process = models.UUIDField(null=True, help_text="The web process that is creating it.")
    provider_batch_id = models.TextField(blank=True)
    state = models.CharField(max_length=20, choices=State, default=State.CREATING)
    requests = models.IntegerField(help_text="How many it was made of.")
    settled_requests = models.IntegerField(default=0)
    ceiling = models.DecimalField(max_digits=30, decimal_places=12, help_text="USD that were held for it.")
    custom_ids = models.CharField(max_length=64, help_text="SHA-256 of their sorted custom ids, a line each.")
    hour_writes = models.BooleanField(default=False, help_text="Whether a request asked for caches of an hour.")
    described = models.TextField(blank=True, help_text="The provider's JSON when it was last asked.")
    asked_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "batches"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider_key", "provider_batch_id"],
                name="messages_api_batch_provider_id",
                condition=~models.Q(provider_batch_id=""),
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["virtual_key", "-id"], name="messages_api_batch_key"),
            models.Index(
                fields=["asked_at"],
                name="messages_api_batch_open",
                condition=models.Q(state__in=("creating", "running")),
            ),
        ]

    def __str__(self) -> str:
        return self.provider_batch_id or str(self.id)
