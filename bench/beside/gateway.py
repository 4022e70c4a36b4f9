"""Bursar as its README calls production: one process of the role `api` on its core, the other roles and PostgreSQL
elsewhere, one database, shared secrets. A virtual key has two budgets and two limits that never bind.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from attacks.deployment import Gateway
from bench.beside import cores
from bench.beside.subject import Target, await_answers
from gateway_project import embedded_postgres, processes

ROOT = Path(__file__).resolve().parents[2]
CAST = Path(__file__).with_name("cast.py")


class Part(Gateway):
    """A supervisor with some of the roles, in a temporary folder of its own."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(ROOT, folder)
        self.environment |= settings

    def end(self) -> None:
        self.stop()
        self.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


class Bursar:
    """The role `api`, started for each round. `calls` counts what `start` has called."""

    def __init__(self, deployment: Deployment, count: int = 1) -> None:
        self.name = "Bursar" if count == 1 else f"Bursar, {count} processes"
        self.deployment = deployment
        self.versions = deployment.versions
        self.count = count
        self.part: Part | None = None
        self.calls = 0

    def start(self, where: frozenset[int]) -> None:
        part = Part(self.deployment.folder_of("api"), self.deployment.settings("api", self.count))
        with cores.on(where):
            part.start()
        self.part = part
        self.calls += await_answers(self.target("at once"))

    def stop(self) -> None:
        if self.part:
            self.part.end()
            self.part = None

    def pids(self) -> set[int]:
        return cores.tree(*self.part.web_pids()) if self.part else set()

    def target(self, pace: str) -> Target:
        assert self.part is not None
        return Target(self.part.port, "/v1/messages", {"x-api-key": self.deployment.keys[pace]})


class Deployment:
    """The database and all roles but `api`, with a virtual key for each pace of the fake provider."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.shared = {
            "DATABASE_URL": url,
            "SECRET_KEY": secrets.token_hex(40),
            "MASTER_KEYS": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "PEPPERS": secrets.token_hex(32),
        }
        self.keys: dict[str, str] = {}
        self.link = psycopg.connect(url, autocommit=True)
        # The parent of the process for a connection is PostgreSQL's main process, if it runs on this machine.
        self.postgres = parent(self.link.info.backend_pid) if urlsplit(url).hostname in LOCAL else 0
        version = self.link.info.server_version
        self.postgresql = f"PostgreSQL {version // 10000}.{version % 10000}"
        self.versions = f"Bursar {commit()} on Python {platform.python_version()}, {self.postgresql}"

    def folder_of(self, roles: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{roles.partition(',')[0]}-", dir=self.folder))

    def settings(self, roles: str, count: int = 1) -> dict[str, str]:
        return self.shared | {"ROLES": roles, "WEB_PROCESSES": str(count)}

    def command(self, *command: str, given: str = "") -> str:
        """Run a Python program with this deployment's settings; what it prints.

        Raises:
            RuntimeError: it fails.
        """
        part = Part(self.folder, self.settings("admin"))
        environment = os.environ | part.environment | {"PYTHONPATH": os.fspath(ROOT)}
        environment["VAR_DIR"] = os.fspath(self.folder / "commands")
        answer = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise RuntimeError((answer.stdout + answer.stderr)[-1000:])
        return answer.stdout.strip()

    def cast(self, provider: Mapping[str, int]) -> None:
        """Create the keys."""
        addresses = {pace: f"http://127.0.0.1:{port}" for pace, port in provider.items()}
        self.keys = json.loads(self.command(os.fspath(CAST), given=json.dumps(addresses)))


LOCAL = (None, "", "localhost", "127.0.0.1", "::1")


def parent(pid: int) -> int:
    """The parent of a process; 0 if there is no such process."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def commit() -> str:
    """The commit that is measured, and whether files differ from it."""
    git = ["git", "-C", os.fspath(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "(no commit)"
    return head.strip() + (" with changes" if changed.stdout.strip() else "")


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """The URL of a new database: on the server of DATABASE_URL, else on an embedded one with the settings of
    `make run`."""
    if given := os.environ.get("DATABASE_URL"):
        name = f"bench_{os.getpid()}"
        with psycopg.connect(given, autocommit=True) as link:
            link.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            try:
                yield urlsplit(given)._replace(path=f"/{name}").geturl()
            finally:
                link.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        return
    var = folder / "postgres"
    var.mkdir()
    server = embedded_postgres.prepare(var, print)
    process = embedded_postgres.start(server, var / "postgres.log")
    try:
        embedded_postgres.wait_until_ready(server, process, var / "postgres.log")
        yield server.url
    finally:
        processes.end(process, signal.SIGINT, patience=30)
        if server.user:
            shutil.rmtree(server.data.parent, ignore_errors=True)


@contextlib.contextmanager
def deployed(where: cores.Cores, provider: Mapping[str, int]) -> Iterator[Deployment]:
    """The database, and the roles `admin`, `worker` and `beat`, until the block ends."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", dir="/tmp")))
        # Processes may run as another user than ours: they can reach their own files, and list nothing else.
        folder.chmod(0o711)
        with cores.on(where.others):
            deployment = Deployment(folder, stack.enter_context(database(folder)))
            stack.callback(deployment.link.close)
            roles = "admin,worker,beat"
            others = Part(deployment.folder_of(roles), deployment.settings(roles))
            stack.callback(others.end)
            others.start()
        deployment.cast(provider)
        yield deployment
