"""What alerts and mailed reports share: rows that workers claim and attempt, with growing pauses, for a day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import models, transaction

from usage import moments

D = TypeVar("D", bound=models.Model)

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=1)
# If a worker dies while it sends, another one tries after this time.
LEASE = timedelta(minutes=2)


def claim(kind: type[D]) -> D | None:
    """Reserve the delivery that has been due longest: no other worker sends it until `LEASE` has passed. None if none
    is due."""
    now = moments.now()
    with transaction.atomic():
        due = kind._default_manager.filter(delivered_at=None, given_up_at=None, next_at__lte=now)
        found = due.order_by("next_at", "pk").select_for_update(skip_locked=True).first()
        delivery: Any = found
        if delivery is not None:
            delivery.attempts += 1
            delivery.next_at = now + LEASE
            delivery.save(update_fields=["attempts", "next_at"])
    return found


def note_failure(delivery: Any, problem: str) -> bool:
    """Set when a delivery whose attempt has failed is tried again, without saving it; True: it is given up instead."""
    delivery.problem = problem[:200]
    now = moments.now()
    if now >= delivery.created_at + GIVE_UP_AFTER:
        delivery.given_up_at = now
        return True
    delivery.next_at = now + pause(delivery.attempts)
    return False


def note_success(delivery: Any, at: datetime) -> None:
    """Set that a delivery was made, without saving it."""
    delivery.problem = ""
    delivery.delivered_at = at


def pause(attempts: int) -> timedelta:
    """How long to wait after `attempts` attempts have failed."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 16)), LONGEST_PAUSE)


# What an attempt writes.
RESULT = ("problem", "next_at", "delivered_at", "given_up_at")
