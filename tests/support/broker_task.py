"""A task that leaves a trace, for the tests of the broker."""

from __future__ import annotations

from pathlib import Path

from celery import shared_task


@shared_task
def touch(path: str) -> None:
    Path(path).touch()
