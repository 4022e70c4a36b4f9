"""Celery tasks for keys. `gateway_project.celery` has their schedule. A task may run twice, or not at all."""

from __future__ import annotations

from celery import shared_task

from keys.audit import seals
from keys.models import SignInCount


@shared_task
def forget_sign_ins() -> None:
    """Delete expired counts of failed sign-ins."""
    SignInCount.forget_past()


@shared_task
def seal_audit_log() -> None:
    """Seal the events of the audit log since the last seal."""
    seals.seal()
