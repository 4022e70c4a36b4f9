"""What Celery does for the API, by the schedule in `gateway_project.celery`. Each may run twice, or never."""

from __future__ import annotations

from celery import shared_task

from messages_api import model_refresh


@shared_task
def refresh_models() -> None:
    """Ask the providers that are due which models they offer."""
    model_refresh.refresh_due()
