"""A PostgreSQL and a Redis of this package's own, which can be stopped, frozen and started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import psycopg

from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import Server
from gateway_project.processes import User
from reliability import clock
from reliability.network import CannotRun
from reliability.program import Program, children

SECONDS_TO_START = 120


class Database:
    """A cluster made of the bundled programs, on a port, with durable commits. It listens on these addresses.
    With `clocks`, its clock can be stepped."""

    def __init__(self, folder: Path, addresses: Sequence[str], port: int, user: User, *, clocks: bool = False) -> None:
        self.folder, self.port = folder, port
        folder.mkdir()
        for each in (folder, folder / "socket"):
            embedded_postgres.make_folder(each, 0o700, user)
        shutil.chown(folder, user.uid, user.gid)
        chosen = max(embedded_postgres.installations().items())
        installation = embedded_postgres.reachable(chosen, user, lambda _: None)
        server = Server(installation, folder / "data", folder / "socket", user)
        embedded_postgres.initialise(server, lambda _: None)
        (folder / "data" / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")
        self.clock = folder.parent / "postgres.clock"
        settings = {"listen_addresses": ",".join(addresses), "port": str(port)}
        self.program = Program(
            "PostgreSQL",
            server.command(settings),
            folder.parent / "postgres.log",
            clock.variables(self.clock) if clocks else {},
            user,
            preload=clock.library(folder.parent) if clocks else "",
            cwd=folder,
        )

    def url(self, address: str = "127.0.0.1", role: str = embedded_postgres.ROLE) -> str:
        return f"postgresql://{role}@{address}:{self.port}/{embedded_postgres.DATABASE}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.program.start()
        self.program.wait_until(self.answers, SECONDS_TO_START)
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            embedded_postgres.make_database(connection)

    @property
    def owner_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def answers(self) -> bool:
        try:
            psycopg.connect(self.owner_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Its fast shutdown: open transactions are rolled back."""
        self.program.stop(signal.SIGINT)

    def freeze(self) -> None:
        """Stop all of its processes where they are; connections stay open, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, how: signal.Signals) -> None:
        for pid in (self.program.pid, *children(self.program.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def step(self, seconds: int) -> None:
        """Step its clock, for all of its processes."""
        clock.step(self.clock, seconds)


class Broker:
    """A Redis that keeps nothing on disk, on these addresses."""

    def __init__(self, folder: Path, addresses: Sequence[str], port: int) -> None:
        self.port = port
        server = shutil.which("redis-server")
        if server is None:
            raise CannotRun("redis-server is missing (Debian: apt-get install redis-server)")
        options = ["--port", str(port), "--bind", *addresses, "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.program = Program("Redis", [server, *options, "--protected-mode", "no"], folder / "redis.log", cwd=folder)
        self.starts = 0

    def url(self, address: str = "127.0.0.1") -> str:
        return f"redis://{address}:{self.port}/3"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.starts += 1
        self.program.start()
        ready = "Ready to accept connections"
        self.program.wait_until(lambda: self.program.said().count(ready) >= self.starts, SECONDS_TO_START)

    def kill(self) -> None:
        self.program.stop(signal.SIGKILL)
