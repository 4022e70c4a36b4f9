"""What Celery does for the API, by the schedule in `gateway_project.celery`. Each may run twice, or never."""

from __future__ import annotations

from celery import shared_task

from keys.models import Cooldown
from messages_api import batch_upkeep, model_refresh
from messages_api.models import Binding


@shared_task
def refresh_models() -> None:
    """Ask the providers that are due which models they offer."""
    model_refresh.refresh_due()


@shared_task
def tend_batches() -> None:
    """Ask how message batches are, settle those with unread results, and find those whose making was cut short."""
    batch_upkeep.tend()


@shared_task
def forget_bindings() -> None:
    """Delete what conversations were bound to, once it has expired."""
    Binding.forget_expired()


@shared_task
def forget_cooldowns() -> None:
    """Delete the cool-downs that count no more."""
    Cooldown.forget_past()
