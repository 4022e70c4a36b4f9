"""Restored copies: a database that came from a backup takes no calls and does no periodic work until an operator says
that the old one is gone. Two gateways with the same keys would each let the whole of every budget pass.

The arbiter refuses calls, because the gateway is paused; the row of `RestoredCopy` says why, and keeps it so
(usage/sql/waiting_copies.sql).
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.db import DatabaseError, models, transaction
from django.utils import timezone

from keys.errors import Conflict
from keys.models import Gateway

SAYS = (
    "this is a restored copy, which takes no calls until `manage.py restore --activate` says that the old gateway is "
    "gone"
)


class RestoredCopy(models.Model):
    """The one row of a database that was restored and not activated yet."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    restored_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True, help_text="when the backup was made")
    was_paused = models.BooleanField(default=False, help_text="whether the gateway was paused then")

    class Meta:
        app_label = "usage"
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"restored {self.restored_at:%Y-%m-%d %H:%M} UTC"


@transaction.atomic
def mark(taken_at: datetime | None) -> None:
    """Make this database a waiting copy: calls are refused from now on. Repeating it changes nothing.

    Args:
        taken_at: when its backup was made; None: unknown.
    """
    gateway, _ = Gateway.objects.get_or_create(pk=1)
    copy = RestoredCopy(restored_at=timezone.now(), taken_at=taken_at, was_paused=gateway.paused)
    if not RestoredCopy.objects.exists():
        copy.save(force_insert=True)
        Gateway.objects.update(paused=True)


@transaction.atomic
def activate() -> None:
    """Take calls from now on, unless the gateway was paused when the backup was made.

    Raises:
        Conflict: this database isn't a waiting copy.
    """
    copy = RestoredCopy.objects.select_for_update().first()
    if copy is None:
        raise Conflict("this database is not a restored copy that waits: there is nothing to activate")
    copy.delete()
    Gateway.objects.update(paused=copy.was_paused)


def is_waiting() -> bool:
    """Whether this database is a waiting copy; no while the database is unavailable, or before its table exists."""
    try:
        with transaction.atomic():
            return RestoredCopy.objects.exists()
    except DatabaseError:
        return False
