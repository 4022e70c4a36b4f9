"""Celery tasks of the administration. `gateway_project.celery` has their schedule."""

from __future__ import annotations

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from administration.rest import idempotency


@shared_task
def forget_rest_answers() -> None:
    """Delete the REST API's answers that are no longer repeated."""
    idempotency.forget_past()


@shared_task
def forget_sessions() -> None:
    """Delete expired sessions. A visitor who begins to sign in has one too."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
