"""Celery tasks for the API. `gateway_project.celery` has their schedule. A task may run twice, or not at all."""

from __future__ import annotations

from celery import shared_task

from keys.models import Cooldown
from messages_api.models import Binding
from messages_api.stored import batch_upkeep, model_refresh


@shared_task
def refresh_models() -> None:
    """Ask providers for their lists of models, if they are due."""
    model_refresh.refresh_due()


@shared_task
def tend_batches() -> None:
    """Update the state of message batches, settle those with unread results, and find those whose creation was
    interrupted.
    """
    batch_upkeep.tend()


@shared_task
def forget_bindings() -> None:
    """Delete expired bindings of conversations."""
    Binding.forget_expired()


@shared_task
def forget_cooldowns() -> None:
    """Delete cool-downs whose strikes no longer count."""
    Cooldown.forget_past()
