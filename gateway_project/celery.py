"""The Celery application: `celery -A gateway_project worker` and `beat`."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.schedules import crontab
from celery.signals import (
    beat_init,
    before_task_publish,
    task_prerun,
    worker_init,
    worker_ready,
    worker_shutdown,
)
from kombu.transport import TRANSPORT_ALIASES

from keys.audit import actor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
TRANSPORT_ALIASES["filesystem"] = "gateway_project.broker:Transport"


class NamedTask(Task):  # type: ignore[type-arg]
    """A task whose changes have its name in the audit log. A restored copy that isn't activated runs none: the old
    gateway may still send the same alerts and tend the same batches."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from usage import restored_copies  # it needs Django's apps

        if restored_copies.is_waiting():
            return None
        with actor.acting(lambda: actor.Actor("task", self.name)):
            return super().__call__(*args, **kwargs)


app = Celery("gateway", task_cls=NamedTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "roll the ledger up": {"task": "usage.tasks.roll_up", "schedule": crontab(minute=5)},
    "check an hour of the roll-ups": {"task": "usage.tasks.check_rollups", "schedule": crontab(minute="2-59/10")},
    "sum roll-ups of earlier versions again": {"task": "usage.tasks.complete_rollups", "schedule": 60.0},
    "take over from dead processes": {"task": "usage.tasks.reap", "schedule": 60.0},
    "deliver alerts": {"task": "usage.tasks.deliver_alerts", "schedule": 30.0},
    "mail reports": {"task": "usage.tasks.mail_reports", "schedule": 60.0},
    "tell of keys that expire": {"task": "usage.tasks.tell_of_expiries", "schedule": 600.0},
    "measure provider keys": {"task": "usage.tasks.observe_providers", "schedule": 30.0},
    "verify the counters": {"task": "usage.tasks.verify_ledger", "schedule": crontab(hour=4, minute=10)},
    "drop the arbiters of older versions": {"task": "usage.tasks.drop_old_arbiters", "schedule": crontab(minute=15)},
    "make partitions": {"task": "usage.tasks.make_partitions", "schedule": crontab(hour=2, minute=20)},
    "archive months": {"task": "usage.tasks.archive_months", "schedule": crontab(hour=4, minute=40)},
    "read reports of providers": {"task": "reconciliation.tasks.read_reports", "schedule": crontab(minute="3-59/10")},
    "refresh the list of models": {"task": "messages_api.tasks.refresh_models", "schedule": 60.0},
    "tend message batches": {"task": "messages_api.tasks.tend_batches", "schedule": 60.0},
    "forget bindings of conversations": {
        "task": "messages_api.tasks.forget_bindings",
        "schedule": crontab(minute=35),
    },
    "forget cool-downs": {"task": "messages_api.tasks.forget_cooldowns", "schedule": 600.0},
    "forget answers of the REST API": {
        "task": "administration.tasks.forget_rest_answers",
        "schedule": crontab(minute=45),
    },
    "forget expired sessions": {"task": "administration.tasks.forget_sessions", "schedule": crontab(minute=40)},
    "forget failures to sign in": {"task": "keys.tasks.forget_sign_ins", "schedule": crontab(minute=50)},
    # More than once a day, so that each day gets a seal even if a task is skipped.
    "seal the audit log": {"task": "keys.tasks.seal_audit_log", "schedule": crontab(hour="0,6,12,18", minute=15)},
    "forget old counts of free calls": {
        "task": "usage.tasks.forget_free_calls",
        "schedule": crontab(hour=3, minute=50),
    },
    "forget old refusals": {"task": "usage.tasks.forget_refusals", "schedule": crontab(hour=3, minute=40)},
}


@worker_init.connect
def check_functions(**_: object) -> None:
    """End a worker whose version was never set up in the database."""
    from django.db import OperationalError, connection

    from usage import functions

    # While the database is unavailable, tasks fail by themselves until it is back.
    with contextlib.suppress(OperationalError), contextlib.closing(connection):
        if not functions.are_made():
            sys.exit(str(functions.ArbiterMissing()))


# Signs of life, of workers and of beat. Handlers import what needs Django's apps when they are called.
_signs: list[Any] = []


@worker_ready.connect
def worker_lives(**_: object) -> None:
    """Begin with a worker's signs of life."""
    from usage.workers import Signs, WorkerKind

    _signs[:] = [Signs(WorkerKind.WORKER)]
    _signs[0].start()


@beat_init.connect
def beat_lives(**_: object) -> None:
    """Begin with beat's signs of life."""
    import django

    django.setup()
    from usage.workers import Signs, WorkerKind

    _signs[:] = [Signs(WorkerKind.BEAT)]
    _signs[0].start()
    atexit.register(worker_ends)  # Celery has no signal for the end of beat


@before_task_publish.connect
def note_sending(headers: Any = None, **_: object) -> None:
    """Write into a task's message when it is sent."""
    from usage.workers import SENT_AT

    if isinstance(headers, dict):
        headers[SENT_AT] = time.time()
    for signs in _signs:
        signs.note_task()


@task_prerun.connect
def note_beginning(task: Any = None, **_: object) -> None:
    """Note how long a task has waited."""
    from usage.workers import SENT_AT

    sent = getattr(getattr(task, "request", None), SENT_AT, None)
    for signs in _signs:
        signs.note_task({SENT_AT: sent})


@worker_shutdown.connect
def worker_ends(**_: object) -> None:
    """Take back the sign of life of a process that stops."""
    while _signs:
        _signs.pop().stop()
