"""The tables of the audit log. Migrations make them in SQL, and triggers refuse changes (keys/sql/audit.sql)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One change, sign-in or export. `object` is the primary key of the row in `table_name` as text, and `about` names
    the row that it belongs to, as `table:key`.

    `changes` has each column as `{"from": value, "to": value}`. A value is null, text, `{"name": id of an AuditName}`
    or `{"secret": true}`.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField("time")
    actor_kind = models.TextField()
    actor_id = models.BigIntegerField(null=True)
    actor = models.TextField()
    address = models.TextField("from where")
    action = models.TextField()
    table_name = models.TextField("table")
    object = models.TextField()
    about = models.TextField()
    changes = models.JSONField()

    class Meta:
        managed = False
        db_table = "keys_auditevent"
        verbose_name = "audit event"
        ordering: ClassVar = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"event {self.pk}"


class AuditName(models.Model):
    """A name that events refer to. To erase it, the row is deleted."""

    id = models.BigAutoField(primary_key=True)
    table_name = models.TextField()
    object = models.TextField()
    about = models.TextField()
    column_name = models.TextField()
    value = models.TextField()

    class Meta:
        managed = False
        db_table = "keys_auditname"
        default_permissions = ()

    def __str__(self) -> str:
        return f"name {self.pk}"


class AuditSeal(models.Model):
    """A seal over the events since the seal before (keys/audit/seals.py)."""

    number = models.BigIntegerField(primary_key=True)
    made_at = models.DateTimeField()
    last_event = models.BigIntegerField()
    events = models.IntegerField()
    leaves = models.BinaryField()
    digest = models.TextField()

    class Meta:
        managed = False
        db_table = "keys_auditseal"
        ordering: ClassVar = ["number"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"seal {self.number} of {self.made_at:%Y-%m-%d}"
