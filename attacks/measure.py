"""What an attack costs: memory, temporary files and connections while it runs, logs and rows that it leaves."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from attacks.deployment import Gateway

SECONDS = 0.05
# Every fourth sample looks at files and connections.
RARELY = 4
MEGABYTE = 1_000_000


@dataclass
class Taken:
    """Memory and temporary files in bytes, PostgreSQL's connections, logs in bytes, rows, and ended web processes."""

    memory: int = 0
    temporary: int = 0
    connections: int = 0
    logged: int = 0
    rows: int = 0
    restarts: int = 0


class Meter:
    """Samples a gateway while its context is open. `taken` is what was added since the context began; only
    connections are a total.

    Memory is what the web processes and their children don't share, and files that exist in memory only.
    """

    def __init__(self, gateway: Gateway, honest: str) -> None:
        self.gateway = gateway
        self.honest = honest
        self.taken = Taken()
        self.link: psycopg.Connection[Any] = psycopg.connect(gateway.database_url, autocommit=True)

    def __enter__(self) -> Meter:
        self.over = threading.Event()
        self.taken = Taken()
        self.pids = self.gateway.web_pids()
        self.before = self._look()
        self.logged, self.rows = self.gateway.logs(), self._rows()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.taken.logged = self.gateway.logs() - self.logged
        self.taken.rows = max(0, self._rows() - self.rows)
        self.taken.restarts = len(set(self.gateway.web_pids()) - set(self.pids))

    def close(self) -> None:
        self.link.close()

    def memory(self) -> int:
        """Bytes that the processes don't share with others now."""
        return sum(map(memory_of, self._processes()))

    def _sample(self) -> None:
        files = self.before[1:]
        for number in range(1_000_000):
            memory = self.memory()
            if number % RARELY == 0:
                files = files_of(self._processes(), self.gateway.temporary)
                self.taken.connections = max(self.taken.connections, self._connections())
            self.taken.memory = max(self.taken.memory, memory + files[0] - sum(self.before[:2]))
            self.taken.temporary = max(self.taken.temporary, files[1] - self.before[2])
            if self.over.wait(SECONDS):
                return

    def _look(self) -> tuple[int, int, int]:
        """Bytes of memory, of files in memory, of temporary files."""
        found = self._processes()
        return self.memory(), *files_of(found, self.gateway.temporary)

    def _processes(self) -> list[int]:
        pids = self.gateway.web_pids()
        return pids + [child for pid in pids for child in children(pid)]

    def _connections(self) -> int:
        row = self.link.execute("SELECT sum(numbackends) FROM pg_stat_database").fetchone()
        assert row is not None
        return int(row[0])

    def _rows(self) -> int:
        """Rows of all tables, without the honest customer's rows in the ledger."""
        tables = self.link.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = %s"
            "::regnamespace",
            ["public"],
        ).fetchall()
        counts = sql.SQL(" + ").join(
            sql.SQL("(SELECT count(*) FROM {})").format(sql.Identifier(name)) for (name,) in tables
        )
        honest = "(SELECT count(*) FROM usage_ledgerentry e JOIN keys_virtualkey k ON k.id = e.virtual_key_id WHERE"
        query = sql.SQL("SELECT {} - {} k.name = {})").format(counts, sql.SQL(honest), sql.Literal(self.honest))
        row = self.link.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def memory_of(pid: int) -> int:
    """Bytes that this process doesn't share with others."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def files_of(pids: list[int], temporary: Path) -> tuple[int, int]:
    """Bytes of open files in memory, and of temporary files. Each file counts once, also one without a name."""
    memory: dict[int, int] = {}
    disk: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(entry.path)
                    if target.startswith(("/memfd:", os.fspath(temporary))):
                        status = os.stat(entry.path)
                        kept = memory if target.startswith("/memfd:") else disk
                        kept[status.st_ino] = status.st_blocks * 512
    for path in temporary.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            disk[status.st_ino] = status.st_blocks * 512
    return sum(memory.values()), sum(disk.values())
