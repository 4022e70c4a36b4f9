"""A gateway as `make run` starts it, on a database and a broker of its own, in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway_project import embedded_postgres, unprivileged
from gateway_project.configuration import Configuration
from gateway_project.processes import User
from reliability import clock
from reliability.program import ROOT, Program, within

SECONDS_TO_START = 300
# The default of LEASE_SECONDS.
LEASE = 15
# What this package's deployments have instead of the defaults, so that a run is short. In seconds.
SHORT = {
    "UPSTREAM_CONNECT_SECONDS": "5",
    "UPSTREAM_FIRST_BYTE_SECONDS": "4",
    "UPSTREAM_BETWEEN_BYTES_SECONDS": "4",
    "RETRY_SECONDS": "6",
    "DRAIN_NOTICE": "2",
    "STOP_GRACE_SECONDS": "10",
}


@dataclass
class Gateway:
    """A supervisor with its web processes, worker and beat, on one machine: an address, and the data folder `var`.

    Attributes:
        settings: of the deployment; all others have their defaults, whatever our own environment has.
        checkout: the code that runs.
        space: the network namespace.
        steps_clocks: whether the clocks of its web processes can be stepped.
    """

    name: str
    folder: Path
    address: str
    port: int
    user: User
    settings: Mapping[str, str]
    checkout: Path = ROOT
    python: Path | None = None
    space: str = ""
    webs: int = 4
    steps_clocks: bool = False
    program: Program = field(init=False)

    def __post_init__(self) -> None:
        self.var = self.folder / f"var-{self.name}"
        if not self.var.exists():
            self.var.mkdir()
            shutil.chown(self.var, self.user.uid, self.user.gid)
        self.clocks = self.folder / f"clocks-{self.name}"
        blank = {name.upper(): "" for name in Configuration.model_fields}
        self.environment = blank | {
            "ENV_FILE": os.devnull,
            "VAR_DIR": os.fspath(self.var),
            "HOST": self.address,
            "PORT": str(self.port),
            "ALLOWED_HOSTS": "*",
            "WEB_PROCESSES": str(self.webs),
            "LOG_LEVEL": "WARNING",
            "HOME": os.fspath(self.var),
            **SHORT,
            **self.settings,
        }
        self.seen_starts = 0
        command: list[str | Path] = [self.python or unprivileged_python(), "-m", "gateway_project.supervisor"]
        self.program = Program(
            f"The gateway {self.name}",
            command,
            self.folder / f"{self.name}.log",
            self.environment
            | (clock.variables_of_web(self.clocks, clock.library(self.folder)) if self.steps_clocks else {}),
            self.user,
            self.space,
            cwd=self.checkout,
        )

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until all web processes answer."""
        before = self.program.said().count("listens on")
        self.program.start()
        self.program.wait_until(lambda: self.program.said().count("listens on") > before, SECONDS_TO_START)

    def stop(self) -> None:
        """Stop it in order, however long its calls take."""
        self.program.stop(signal.SIGINT, 60)
        # What a supervisor that was killed has left.
        for pid in self.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """The supervisor's children that live, by name."""
        found = {}
        for file in (self.var / "run").glob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(file.read_text())
                if os.fspath(self.var).encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found[file.stem] = pid
        return found

    def web_pids(self) -> list[int]:
        return [pid for name, pid in self.pids().items() if name.startswith("web-") and "-old-" not in name]

    def is_whole(self) -> bool:
        """Whether every process runs."""
        names = {*(f"web-{number + 1}" for number in range(self.webs)), "worker", "beat"}
        return names <= set(self.pids())

    def is_ready(self) -> bool:
        """Whether a web process can answer calls."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def manage(self, *arguments: str, script: str = "manage.py") -> subprocess.CompletedProcess[str]:
        """Run a command of the gateway's, as its user."""
        ids = ["setpriv", f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
        return subprocess.run(
            [*ids, self.program.command[0], script, *arguments],
            cwd=self.checkout,
            env=os.environ | self.environment | {"PYTHONPATH": os.fspath(self.checkout)},
            capture_output=True,
            text=True,
            check=False,
        )

    def cast(self, providers: Mapping[str, str], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Create these keys; the virtual keys by name."""
        wanted = json.dumps({"providers": providers, "keys": keys})
        answer = self.manage(wanted, script=os.fspath(Path(__file__).with_name("cast.py")))
        if answer.returncode:
            raise RuntimeError(answer.stderr[-2000:])
        made: dict[str, str] = json.loads(answer.stdout)
        return made

    def step_one_clock(self, seconds: int) -> None:
        """Step the clock of one web process."""
        clock.step(self.clocks / str(min(self.web_pids())), seconds)

    def recovers(self, seconds: float) -> bool:
        """Whether all processes run and calls can be answered within these seconds."""
        return within(seconds, lambda: self.is_whole() and self.is_ready())


def unprivileged_python() -> Path:
    """The Python that a user without rights can run.

    Raises:
        CannotStart: there is none.
    """
    _, python = unprivileged.reachable(system_user(), lambda _: None)
    return python


def system_user() -> User:
    return embedded_postgres.system_user(print)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that other users can enter, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="reliability-", dir="/tmp") as made:
        Path(made).chmod(0o711)
        yield Path(made)
