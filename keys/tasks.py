"""What Celery does for keys, by the schedule in `gateway_project.celery`. A task may run twice, or not at all."""

from __future__ import annotations

from celery import shared_task

from keys.models import SignInCount


@shared_task
def forget_sign_ins() -> None:
    """Delete the counts of failures to sign in that count no more."""
    SignInCount.forget_past()
