"""What is measured: a gateway that can be started on cores, called, and stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.beside import bodies, cores

SECONDS_TO_START = 120.0


class Missing(Exception):
    """A peer can't be had here. The message says why, in a line."""


@dataclass(frozen=True)
class Target:
    """Where to call, and under which name the model is known there."""

    port: int
    path: str
    headers: dict[str, str] = field(repr=False)
    model: str = bodies.MODEL


class Subject(Protocol):
    """A gateway under test. `versions` names it and what it runs on."""

    name: str
    versions: str

    def start(self, where: frozenset[int]) -> None:
        """Start it on these cores, and wait until it answers.

        Raises:
            RuntimeError: it doesn't.
        """

    def stop(self) -> None: ...

    def pids(self) -> set[int]:
        """The processes that answer calls."""

    def target(self, pace: str) -> Target:
        """Where streams of this pace (upstream.PACES) are."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A peer's process, started for each round and ended by its id."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,
            )

    def pids(self) -> set[int]:
        return cores.tree(self.process.pid)

    def stop(self) -> None:
        """End it and its children. They are a session of their own."""
        ours = self.pids()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                if pid == self.process.pid or os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def await_answers(target: Target, program: Program | None = None) -> int:
    """Call until it has answered five times; the number of good answers, which are calls.

    Raises:
        RuntimeError: it doesn't answer; the message has the last status.
    """
    deadline, good, last = time.monotonic() + SECONDS_TO_START, 0, "no answer"
    body = bodies.encoded(bodies.short(), model=target.model, stream=False)
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"} | target.headers
    while good < 5:
        if time.monotonic() > deadline or (program and program.process.poll() is not None):
            raise RuntimeError(f"it doesn't answer ({last})")
        link = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
        try:
            link.request("POST", target.path, body, headers)
            answer = link.getresponse()
            said, last = answer.read(), f"HTTP {answer.status}"
            good += answer.status == 200 and b"output_tokens" in said
        except (OSError, http.client.HTTPException) as error:
            last = type(error).__name__
        finally:
            link.close()
        if last != "HTTP 200":
            time.sleep(0.3)
    return good
