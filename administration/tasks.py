"""Celery tasks of the administration. `gateway_project.celery` has their schedule."""

from __future__ import annotations

from celery import shared_task

from administration.rest import idempotency


@shared_task
def forget_rest_answers() -> None:
    """Delete the REST API's answers that are no longer repeated."""
    idempotency.forget_past()
