"""A process of this package's: how it is started, when it answers, and how it ends. All others are built on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway_project import processes
from gateway_project.processes import User

ROOT = Path(__file__).resolve().parent.parent


class DoesNotAnswer(Exception):
    """A process ended, or doesn't answer in time. The message has the end of its log."""


@dataclass
class Program:
    """A command that runs in a session of its own, and writes to a log file.

    Attributes:
        environment: variables besides ours.
        user: who it runs as; None: we.
        space: the network namespace that it runs in; "": ours.
        preload: a library that only the command itself loads, not what stands before it.
    """

    name: str
    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    space: str = ""
    preload: str = ""
    cwd: Path = ROOT
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the command itself: what stands before it replaces itself by it."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the command. It ends with us, however we end."""
        before: list[str | Path] = ["ip", "netns", "exec", self.space] if self.space else []
        if self.user:
            ids = [f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups", "--no-new-privs"]
            before += ["setpriv", *ids, "--pdeathsig", "TERM"]
        if self.preload:
            before += ["env", f"LD_PRELOAD={self.preload}"]
        with self.log.open("ab") as output:
            self.process = processes.spawn(
                [*before, *self.command], environment=self.environment, cwd=self.cwd, output=output.fileno()
            )

    def wait_until(self, answers: Callable[[], bool], seconds: float) -> None:
        """Wait until it answers.

        Raises:
            DoesNotAnswer: it ended, or these seconds have passed.
        """
        deadline = time.monotonic() + seconds
        while not answers():
            if not self.is_alive() or time.monotonic() > deadline:
                raise DoesNotAnswer(f"{self.name} doesn't answer: {self.said()[-2000:]}")
            time.sleep(0.05)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """What is in its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, how: signal.Signals) -> None:
        """Send it a signal, if it is alive."""
        if self.is_alive():
            os.kill(self.pid, how)

    def stop(self, how: signal.Signals = signal.SIGTERM, patience: float = 30) -> None:
        """End it, and wait for its end; kill it if it takes longer than this."""
        if self.process is not None and self.process.poll() is None:
            # A stopped process doesn't take other signals.
            self.send(signal.SIGCONT)
            processes.end(self.process, how, patience)


def children(pid: int) -> list[int]:
    """All processes below this one."""
    found = []
    with contextlib.suppress(OSError):
        for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(text), *children(int(text))]
    return found


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether this becomes true within these seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
