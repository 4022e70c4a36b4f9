"""Refusing calls for a while: of a key, a team, a customer or everybody. Open streams run to their end."""

from __future__ import annotations

from collections.abc import Iterable

from keys.models import Customer, Gateway, Team, VirtualKey

Pausable = VirtualKey | Team | Customer | Gateway


def pause(subject: Pausable) -> None:
    """Refuse its calls, on every process from the next one on, until it is resumed."""
    _set(subject, True)


def resume(subject: Pausable) -> None:
    """Let its calls in again. A revoked or expired key stays what it is."""
    _set(subject, False)


def pause_all(subjects: Iterable[Pausable]) -> None:
    """Pause each of these."""
    for subject in subjects:
        pause(subject)


def resume_all(subjects: Iterable[Pausable]) -> None:
    """Resume each of these."""
    for subject in subjects:
        resume(subject)


def _set(subject: Pausable, paused: bool) -> None:
    if isinstance(subject, VirtualKey):
        subject.active = not paused
        subject.save(update_fields=["active"])
    else:
        subject.paused = paused
        subject.save(update_fields=["paused"])
