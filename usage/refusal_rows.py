"""The log of calls that the gateway refused; usage/refusals.py and usage/refusal_log.py write it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from keys.models import VirtualKey


class Refusal(models.Model):
    """A call that the gateway refused. It cost nothing and has no ledger row, but support can find it by its request
    id.

    In a storm, the first few calls have their own rows. Further calls with the same reason and key are counted in one
    row for each `minute`, which describes the last of them. `facts`: the values from which a budget's or limit's
    refusal is worded in any language (usage/arbiter/admissions.sql; `max_tokens` with which the call would fit).
    """

    id = models.UUIDField(primary_key=True)
    refused_at = models.DateTimeField(db_index=True)
    http_status = models.SmallIntegerField()
    error_type = models.CharField(max_length=40)
    reason = models.CharField(max_length=40)
    message = models.TextField()
    endpoint = models.CharField(max_length=40)
    credential_hint = models.CharField(max_length=40, blank=True)
    virtual_key = models.ForeignKey(
        VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+"
    )
    requested_model = models.TextField(blank=True)
    facts = models.JSONField(null=True)
    minute = models.DateTimeField(null=True)
    count = models.BigIntegerField(default=1, db_default=1)

    class Meta:
        ordering: ClassVar = ["-refused_at"]
        indexes: ClassVar = [
            models.Index(fields=["virtual_key", "refused_at"], name="usage_refusal_of_key"),
            models.Index(fields=["reason", "refused_at"], name="usage_refusal_by_reason"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["minute", "reason", "virtual_key"],
                name="usage_refusal_counted",
                condition=models.Q(minute__isnull=False),
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return str(self.id)
