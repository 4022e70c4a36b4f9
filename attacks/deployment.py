"""A gateway as `make run` starts it, in a temporary folder that is removed afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway_project import database, embedded_postgres, processes
from gateway_project.configuration import Configuration

WEB_PROCESSES = 2
SECONDS_TO_START = 600
SECONDS_TO_STOP = 60
CAST = Path(__file__).with_name("cast.py")


@dataclass(frozen=True)
class Cast:
    """The keys that take part; attacks/cast.py describes them."""

    honest: str = field(repr=False)
    r: str = field(repr=False)
    buyer: str = field(repr=False)
    other: str = field(repr=False)
    starred: str = field(repr=False)
    unknown: list[str] = field(repr=False)


Address = tuple[str, int]


class Gateway:
    """The supervisor and its children: web processes, worker, beat and the embedded PostgreSQL."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self.var = folder / "var"
        self.temporary = folder / "tmp"
        self.screen = folder / "screen.log"
        self.port = free_port()
        self.environment = environment(self)

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return (self.var / database.URL_FILE).read_text().strip()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Processes may run as another user than ours: they can reach their own files, and list nothing else.
        self.folder.chmod(0o711)
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        command = [sys.executable, "-m", "gateway_project.supervisor"]
        with self.screen.open("wb") as screen:
            self.process = processes.spawn(
                command, environment=self.environment, cwd=self.checkout, output=screen.fileno()
            )
        self._wait("The gateway doesn't start", lambda: "listens on" in self.said(), SECONDS_TO_START)

    def said(self) -> str:
        return self.screen.read_text(errors="replace")

    def web_pids(self) -> list[int]:
        """The web processes that run now."""
        return [int(text) for file in self._pid_files() if (text := file.read_text().strip())]

    def _pid_files(self) -> list[Path]:
        return [file for file in sorted((self.var / "run").glob("web-*.pid")) if "old" not in file.name]

    def logs(self) -> int:
        """Bytes of everything that its processes have logged."""
        files = [self.screen, *(self.var / "log").iterdir()]
        return sum(file.stat().st_size for file in files)

    def cast(self, main: str, other: str) -> Cast:
        """The keys that take part; `main` and `other` are the addresses of the providers."""
        answer = subprocess.run(  # noqa: S603
            [sys.executable, CAST, main, other],
            cwd=self.checkout,
            env=os.environ | self.environment | {"PYTHONPATH": os.fspath(self.checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise RuntimeError(answer.stderr[-2000:])
        return Cast(**json.loads(answer.stdout))

    def renew(self) -> None:
        """Replace the web processes, so that the next attack doesn't inherit memory from the last one."""
        before = set(self.web_pids())
        self.process.send_signal(signal.SIGHUP)
        self._wait("The web processes are not replaced", lambda: self._replaced(before), SECONDS_TO_START)

    def _replaced(self, before: set[int]) -> bool:
        after = self.web_pids()
        gone = not list((self.var / "run").glob("web-*-old-*.pid"))
        return len(after) == WEB_PROCESSES and not before & set(after) and gone

    def _wait(self, trouble: str, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{trouble}: {self.said()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the gateway in order; a second signal makes it hurry."""
        for _ in range(2):
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(SECONDS_TO_STOP)
                return
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Remove the files that PostgreSQL's own user keeps for this deployment if we are root."""
        instance = self.var / "instance"
        if instance.exists() and (name := instance.read_text().strip()):
            shutil.rmtree(embedded_postgres.SYSTEM_DIR / name, ignore_errors=True)


def environment(gateway: Gateway) -> dict[str, str]:
    """This gateway's settings. All others get their defaults, whatever our own environment has."""
    return {name.upper(): "" for name in Configuration.model_fields} | {
        "ENV_FILE": os.devnull,
        "VAR_DIR": os.fspath(gateway.var),
        "TMPDIR": os.fspath(gateway.temporary),
        "PORT": str(gateway.port),
        "WEB_PROCESSES": str(WEB_PROCESSES),
        "DRAIN_NOTICE": "0",
        "STOP_GRACE_SECONDS": "2",
        # The fake providers listen here.
        "ALLOWED_PRIVATE_HOSTS": "127.0.0.0/8",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(checkout: Path) -> Iterator[Gateway]:
    """A gateway of this checkout, which runs until the block ends."""
    with tempfile.TemporaryDirectory(prefix="gateway-attack-", dir="/tmp") as folder:
        gateway = Gateway(checkout, Path(folder))
        try:
            try:
                gateway.start()
                yield gateway
            finally:
                gateway.stop()
        finally:
            gateway.remove()
