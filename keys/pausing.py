"""Pauses and resumes a key, a team, a customer or the whole gateway. Open streams run to their end."""

from __future__ import annotations

from collections.abc import Iterable

from keys.errors import Conflict
from keys.models import Customer, Gateway, Team, VirtualKey

Pausable = VirtualKey | Team | Customer | Gateway


def pause(subject: Pausable) -> None:
    """Refuse its calls on every process until it is resumed. The next call is already refused.

    Raises:
        Conflict: it is a revoked key.
    """
    _set(subject, True)


def resume(subject: Pausable) -> None:
    """Accept its calls again. An expired key stays expired.

    Raises:
        Conflict: it is a revoked key.
    """
    _set(subject, False)


def pause_all(subjects: Iterable[Pausable]) -> None:
    for subject in subjects:
        pause(subject)


def resume_all(subjects: Iterable[Pausable]) -> None:
    for subject in subjects:
        resume(subject)


def _set(subject: Pausable, paused: bool) -> None:
    if isinstance(subject, VirtualKey):
        if subject.revoked_at is not None:
            what = "paused" if paused else "resumed"
            raise Conflict(f"“{subject}” is revoked permanently, so it can't be {what}: issue a new key")
        subject.active = not paused
        subject.save(update_fields=["active"])
    else:
        subject.paused = paused
        subject.save(update_fields=["paused"])
