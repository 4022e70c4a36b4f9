"""Web processes, started as forks of a process that has imported other people's modules already.

Two thirds of the CPU of a start are such imports, and the suite starts some 150 web processes. What they run is the
supervisor's own program with its own settings. Tests of the supervisor and of `make run` start it as a program.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway_project.processes import spawn
from tests.support.environment import RESOURCES

ROOT = Path(__file__).resolve().parent.parent.parent
# The packages that a web process imports, of those that a test process has imported, too.
PACKAGES = frozenset(
    (
        *("aiohttp", "allauth", "amqp", "anyio", "argon2", "asgiref", "asyncio", "billiard", "celery", "certifi"),
        *("cryptography", "dateutil", "django", "drf_spectacular", "email", "fido2", "genai_prices", "h11", "http"),
        *("httpcore", "httptools", "httpx", "httpx2", "kombu", "msgspec", "psycopg", "psycopg_pool"),
        *("pydantic", "pydantic_settings", "requests", "rest_framework", "rich", "servestatic", "simdjson", "sqlparse"),
        *("uritemplate", "urllib3", "uvicorn", "uvloop", "vine", "yaml", "yarl"),
    )
)

ASKING = threading.Lock()


class Forked:
    """A web process, with as much of `subprocess.Popen` as tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status, or None as long as it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if self.returncode is None:
            watch = select.poll()
            watch.register(self._ended, select.POLLIN)
            if not watch.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("web", timeout or 0)
            self.returncode = ask({"end": self.pid})
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        """As a crash would."""
        self.send_signal(signal.SIGKILL)


def start(environment: Mapping[str, str], listener: int, ready: int, log: int) -> Forked:
    """Start a web process on a listening socket.

    Args:
        ready: the descriptor that gets a byte when it answers.
        log: the descriptor for what it prints.
    """
    return Forked(ask({"start": [], "environment": dict(environment)}, listener, ready, log))


def ask(what: dict[str, Any], *files: int) -> int:
    """Send the server of this test process a request; its answer."""
    link = server()
    with ASKING:
        socket.send_fds(link, [json.dumps(what).encode()], files)
        answer = link.recv(100)
    assert answer, "the fork server has ended"
    told: int = json.loads(answer)
    return told


@functools.cache
def server() -> socket.socket:
    """A link to the process that forks; it is started with the first request and ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    modules = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    command = [sys.executable, "-m", "tests.support.fork_server", str(its.fileno()), *modules]
    # A run that is killed leaves none behind.
    process = spawn(command, dies_with=signal.SIGKILL, cwd=ROOT, pass_fds=[its.fileno()])
    its.close()

    def end() -> None:
        ours.close()
        process.wait(60)

    RESOURCES.callback(end)
    return ours
