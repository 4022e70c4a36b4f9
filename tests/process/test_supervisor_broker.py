"""Celery as the supervisor starts it: what beat sends arrives at the worker, through files and through a broker."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from gateway_project import database, processes, roles, supervisor
from gateway_project.configuration import BASE_DIR
from gateway_project.unprivileged import Place

BEAT = """
import sys
from gateway_project.celery import app
app.conf.beat_schedule = {"touch": {"task": "tests.support.broker_task.touch", "schedule": 1.0, "args": [sys.argv[1]]}}
app.start(["beat", "--schedule", sys.argv[2], "--pidfile", "", "-l", "WARNING"])
"""


@pytest.fixture(autouse=True)
def migrated(apart: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker starts on a database that has the arbiter of its version."""
    monkeypatch.setenv("DATABASE_URL", database.url_of(settings.DATABASES["default"]))


def check_that_a_task_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker_url: str) -> None:
    supervisor.make_folders(tmp_path / "var")
    monkeypatch.setenv("VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    monkeypatch.chdir(BASE_DIR)
    trace = tmp_path / "trace"
    role = roles.celery_role("worker", Place(), *roles.WORKER_ARGUMENTS, "--include", "tests.support.broker_task")
    worker, _ = role.start()
    beat = processes.spawn([sys.executable, "-c", BEAT, str(trace), str(tmp_path / "schedule")], cwd=BASE_DIR)
    try:
        deadline = time.monotonic() + 120
        while not trace.exists():
            assert worker.poll() is None
            assert beat.poll() is None
            assert time.monotonic() < deadline, "the task did not arrive"
            time.sleep(0.1)
    finally:
        processes.end(beat, signal.SIGTERM, patience=60)
        processes.end(worker, signal.SIGTERM, patience=60)
    assert (beat.returncode, worker.returncode) == (0, 0)


def test_a_task_travels_through_files(tmp_path, monkeypatch):
    check_that_a_task_arrives(tmp_path, monkeypatch, "")


@pytest.mark.needs_server
def test_a_task_travels_through_a_broker(tmp_path, monkeypatch, broker_url):
    check_that_a_task_arrives(tmp_path, monkeypatch, broker_url)
