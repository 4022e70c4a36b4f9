"""Celery tasks, on the schedule in `gateway_project.celery`. A task may run twice or not at all."""

from __future__ import annotations

from celery import shared_task

from reconciliation import running


@shared_task
def read_reports() -> None:
    """Read the reports of providers that are due, and compare them with the ledger."""
    running.run_all()
