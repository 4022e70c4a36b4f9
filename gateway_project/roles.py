"""The kinds of the supervisor's children: how each is started, when it is ready, and how it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway_project import embedded_postgres, page_socket, processes
from gateway_project.configuration import Configuration
from gateway_project.unprivileged import Place

LOG_BYTES = 10_000_000

WORKER_ARGUMENTS = (
    *("--pool", "threads", "--concurrency", "2"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)


@dataclass(frozen=True)
class Role:
    """How a kind of child is started and stopped.

    Attributes:
        start: starts the process; returns it and the file descriptor that it writes to when it is ready, or None.
        patience: seconds that the process may take to stop.
        hasty_signal: what stops it if a person waits for the end; None: `stop_signal`.
    """

    name: str
    start: Callable[[], tuple[subprocess.Popen[bytes], int | None]]
    patience: float
    stop_signal: signal.Signals = signal.SIGTERM
    last_signal: signal.Signals = signal.SIGKILL
    hasty_signal: signal.Signals | None = None


@dataclass
class Child:
    """A running process of a role."""

    role: Role
    process: subprocess.Popen[bytes]
    ready_file: int | None
    started: float = field(default_factory=time.monotonic)

    def is_ready(self) -> bool:
        """Whether the process has reported that it is ready. One that doesn't report counts as ready after 3 s."""
        if self.ready_file is None:
            return time.monotonic() - self.started > 3
        with contextlib.suppress(BlockingIOError):
            said = os.read(self.ready_file, 1)
            if said:
                self.close()
                self.started = 0
                return True
        return False

    def close(self) -> None:
        if self.ready_file is not None:
            os.close(self.ready_file)
            self.ready_file = None

    def is_alive(self) -> bool:
        return self.process.poll() is None


def web_role(
    name: str, settings: Configuration, listener: socket.socket, place: Place, environment: Mapping[str, str]
) -> Role:
    """A process that answers requests. It reports through a pipe when it can.

    Args:
        environment: variables besides those of the place.
    """

    def start() -> tuple[subprocess.Popen[bytes], int]:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        handed = (listener.fileno(), writer)
        arguments = ["--socket", str(handed[0]), "--ready", str(handed[1])]
        command = [str(place.python), "-m", "gateway_project.web", *arguments]
        process = processes.spawn(
            command,
            user=place.user,
            dies_with=signal.SIGINT,
            pass_fds=handed,
            environment={**place.environment, **environment},
            cwd=place.code,
        )
        os.close(writer)
        return process, reader

    # After its notice, open calls have STOP_GRACE_SECONDS to end; then the application needs some seconds to write
    # settlements.
    patience = settings.drain_notice + settings.stop_grace_seconds + 15
    return Role(name, start, patience, hasty_signal=signal.SIGINT)


def page_role(settings: Configuration, listener: socket.socket, place: Place) -> Role:
    """The process that serves pages if web processes serve calls. It is named like them, and is replaced with them."""
    return web_role("pages-1", settings, listener, place, {"ROLES": "admin", page_socket.IS_PAGE_PROCESS: "1"})


def celery_role(name: str, place: Place, *arguments: str) -> Role:
    """Celery's worker or beat. SIGTERM lets the worker finish its tasks."""
    command = [str(place.python), "-m", "celery", "--quiet", "-A", "gateway_project", name, *arguments, "-l", "WARNING"]
    # Celery warns about running as root, since a pickled message could run code. Our messages are JSON, and a container
    # often has no other user.
    environment = {
        **place.environment,
        page_socket.NO_PAGES: "1",
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
    }

    def start() -> tuple[subprocess.Popen[bytes], None]:
        return processes.spawn(command, user=place.user, environment=environment, cwd=place.code), None

    return Role(name, start, patience=60)


def worker_role(place: Place) -> Role:
    return celery_role("worker", place, *WORKER_ARGUMENTS)


def beat_role(run_dir: Path, place: Place) -> Role:
    return celery_role("beat", place, "--schedule", str((place.var_dir or run_dir) / "beat-schedule"), "--pidfile", "")


def postgres_role(server: embedded_postgres.Server, var_dir: Path) -> Role:
    """The embedded PostgreSQL. SIGINT is its fast shutdown; never SIGKILL, which would leave shared memory behind."""
    log = var_dir / "log" / "postgres.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.unlink()

    def start() -> tuple[subprocess.Popen[bytes], None]:
        return embedded_postgres.start(server, log), None

    return Role("postgres", start, patience=60, stop_signal=signal.SIGINT, last_signal=signal.SIGQUIT)
