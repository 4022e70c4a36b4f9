"""Signs of life of Celery's processes: one row for each worker and for beat, written once a minute.

A thread of the process writes it, so that it doesn't depend on tasks. What tasks show is noted beside it: when the last
one began, by the database's clock, and how long it had waited for that. A wait is the difference of two machines'
clocks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.db import Error, connection, models
from django.db.models.functions import Now

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
# A process without a sign of life within this time counts as dead. Its row is deleted after FORGOTTEN, or by another
# process of its kind on its host, which has taken its place.
ALIVE = timedelta(seconds=3 * EVERY_SECONDS)
FORGOTTEN = timedelta(days=1)
# The header of a task's message with the time at which it was sent.
SENT_AT = "bursar_sent_at"


class WorkerKind(models.TextChoices):
    """What a process does for Celery."""

    WORKER = "worker", "worker"
    BEAT = "beat", "beat (sends the periodic tasks)"


class Worker(models.Model):
    """A process of Celery's, and its last sign of life.

    `task_at`: when its last task began (of beat: when it sent the last one). `waited_ms`: the longest time that a task
    which began since the sign of life before had waited for a worker.
    """

    id = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=10, choices=WorkerKind)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField("last sign of life", db_default=Now())
    task_at = models.DateTimeField("last task", null=True)
    waited_ms = models.BigIntegerField(null=True)

    class Meta:
        ordering: ClassVar = ["kind", "host", "pid"]

    def __str__(self) -> str:
        return f"{self.kind} {self.host} {self.pid}"

    @property
    def alive(self) -> bool:
        """Whether its last sign of life is recent, by the database's clock, which dated it.

        A row that `with_silence` has read asks the database for nothing more.
        """
        silence: timedelta | None = vars(self).get("silence")
        if silence is None:
            silence = vars(with_silence(Worker.objects.filter(pk=self.pk)).get())["silence"]
        return silence < ALIVE


def with_silence(rows: models.QuerySet[Worker]) -> models.QuerySet[Worker]:
    """The same rows with the time since their last sign of life in `silence`."""
    silence = models.ExpressionWrapper(Now() - models.F("beat_at"), output_field=models.DurationField())
    return rows.annotate(silence=silence)


class Signs:
    """The signs of life of this process. `start` begins a thread that gives them until `stop`."""

    def __init__(self, kind: WorkerKind) -> None:
        self.id = uuid.uuid4()
        self.kind = kind
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        # When the last task began, on this machine's monotonic clock.
        self.task_began: float | None = None
        self.waited_ms: int | None = None

    def note_task(self, headers: Mapping[str, Any] | None = None) -> None:
        """Note that a task begins or, of beat, that one is sent.

        Args:
            headers: of the task's message, which say when it was sent.
        """
        sent = (headers or {}).get(SENT_AT)
        with self.lock:
            self.task_began = time.monotonic()
            if isinstance(sent, int | float):
                waited = max(0, round((time.time() - sent) * 1000))
                self.waited_ms = max(waited, self.waited_ms or 0)

    def give(self) -> None:
        """Write the row, and delete those of processes that are dead and replaced, or ended long ago.

        Raises:
            django.db.Error: the database is unavailable.
        """
        with self.lock:
            task_began, waited_ms, self.waited_ms = self.task_began, self.waited_ms, None
        values: dict[str, Any] = {"beat_at": Now()}
        if task_began is not None:
            values["task_at"] = Now() - timedelta(seconds=time.monotonic() - task_began)
        if waited_ms is not None:
            values["waited_ms"] = waited_ms
        place = {"kind": self.kind, "host": socket.gethostname()[:200]}
        Worker.objects.update_or_create(
            id=self.id, defaults=values, create_defaults=place | values | {"pid": os.getpid()}
        )
        replaced = models.Q(**place, beat_at__lt=Now() - ALIVE)
        Worker.objects.filter(replaced | models.Q(beat_at__lt=Now() - FORGOTTEN)).delete()

    def start(self) -> None:
        """Begin to give signs of life."""
        self.thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Give no more, and delete the row."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join(timeout=5)
        with contextlib.suppress(Error):
            Worker.objects.filter(id=self.id).delete()

    def _run(self) -> None:
        wait = 0.0
        while not self.ended.wait(wait):
            wait = EVERY_SECONDS
            try:
                # Without a connection between two signs: a deployment may have many workers.
                with contextlib.closing(connection):
                    self.give()
            except Error as error:
                logger.warning("no sign of life (%s)", type(error).__name__)
