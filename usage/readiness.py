"""Whether a process of the gateway can do its work, role by role: what a load balancer, an orchestrator and
`manage.py ready` ask.

Each check has its time. Checks run side by side, each for SECONDS at most, and an answer is kept for KEPT_SECONDS: a
stranger who asks all the time costs the database one connection a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from celery import current_app
from django.apps import apps
from django.conf import settings

from keys.connection import connect, patience
from usage import functions, restored_copies
from usage.workers import ALIVE

ROLES = ("api", "admin", "worker", "beat")
SECONDS = 2.0
KEPT_SECONDS = 1.0

APPLIED = "SELECT app, name FROM django_migrations"
WAITS = "SELECT FROM usage_restoredcopy"
SIGN_OF_LIFE = """
SELECT EXISTS (SELECT FROM usage_worker WHERE kind = %s AND host = %s AND beat_at > clock_timestamp() - %s::interval)
"""


class Unready(Exception):
    """What a check has found, in words for an operator."""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of a check.

    Attributes:
        counts: whether the role can't do its work without it. Otherwise, it is only reported.
        milliseconds: how long the check took.
        says: what is wrong; empty if nothing is.
    """

    name: str
    ok: bool
    counts: bool
    milliseconds: float
    says: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The outcome of all checks of a role."""

    role: str
    checks: Sequence[Check]

    @property
    def ready(self) -> bool:
        """Whether everything that counts is in order."""
        return all(check.ok or not check.counts for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """What `/health/ready` answers."""
        return {
            "status": "ready" if self.ready else "not ready",
            "role": self.role,
            "checks": [asdict(check) for check in self.checks],
        }


async def ask(role: str) -> Readiness:
    """Check what a role needs. The database doesn't count for `api` where calls pass without it (ARBITER_AWAY)."""
    needs_database = role != "api" or settings.CONFIGURATION.arbiter_away == "refuse"
    works_on_tasks = role in ("worker", "beat")
    rounds = [_of_database(role if works_on_tasks else None, needs_database), _of_broker(works_on_tasks)]
    return Readiness(role, [check for found in await asyncio.gather(*rounds) for check in found])


class Kept:
    """The last answer for each role; questions that arrive together wait for the same one."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[float, asyncio.Task[Readiness]]] = {}

    async def ask(self, role: str) -> Readiness:
        """As `ask`, but at most once in KEPT_SECONDS."""
        since, answer = self._answers.get(role, (0.0, None))
        if answer is None or (answer.done() and time.monotonic() - since >= KEPT_SECONDS):
            answer = asyncio.get_running_loop().create_task(ask(role))
            self._answers[role] = time.monotonic(), answer
        return await asyncio.shield(answer)


async def _of_database(worker: str | None, counts: bool) -> list[Check]:
    """The database, its migrations, the arbiter of this version and, of a worker, its sign of life. What comes after a
    check that failed isn't asked."""
    connection: psycopg.AsyncConnection | None = None

    async def answers() -> None:
        nonlocal connection
        async with asyncio.timeout(SECONDS):
            connection = await connect("gateway health")

    async def migrations() -> None:
        assert connection is not None
        applied = set(await (await connection.execute(APPLIED)).fetchall())
        if missing := sorted(".".join(each) for each in migrations_of_code() - applied):
            raise Unready(f"not applied: {', '.join(missing[:5])}; run manage.py migrate")

    async def arbiter() -> None:
        assert connection is not None
        await functions.check(connection)

    async def activated() -> None:
        assert connection is not None
        if (await (await connection.execute(WAITS)).fetchone()) is not None:
            raise Unready(restored_copies.SAYS)

    async def sign_of_life() -> None:
        assert connection is not None
        row = await (await connection.execute(SIGN_OF_LIFE, [worker, socket.gethostname()[:200], ALIVE])).fetchone()
        if row != (True,):
            raise Unready(f"no {worker} of this host has given a sign of life for {ALIVE.seconds} seconds")

    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("database", answers),
        ("migrations", migrations),
        ("arbiter", arbiter),
        ("activated", activated),
    ]
    if worker:
        steps.append((worker, sign_of_life))
    found: list[Check] = []
    try:
        for name, step in steps:
            with patience(connection, SECONDS) if connection else contextlib.nullcontext():
                found.append(await _timed(name, step, counts))
            if connection is None:
                break
    finally:
        if connection is not None:
            await connection.close()
    return found


async def _of_broker(counts: bool) -> list[Check]:
    async def answers() -> None:
        async with asyncio.timeout(SECONDS):
            await asyncio.to_thread(reach_broker)

    return [await _timed("broker", answers, counts)]


async def _timed(name: str, step: Callable[[], Awaitable[None]], counts: bool) -> Check:
    """Run a check. What it says names kinds of errors, and no address or secret."""
    begun, says = time.perf_counter(), ""
    try:
        await step()
    except TimeoutError:
        says = f"no answer within {SECONDS:.0f} seconds"
    except (Unready, functions.ArbiterMissing) as error:
        says = str(error)
    except Exception as error:
        says = f"it can't be reached ({type(error).__name__})"
    return Check(name, not says, counts, round((time.perf_counter() - begun) * 1000, 1), says)


@cache
def migrations_of_code() -> set[tuple[str, str]]:
    """The app and the name of each migration of this version of the gateway."""
    return {
        (config.label, file.stem)
        for config in apps.get_app_configs()
        if Path(config.path).is_relative_to(settings.BASE_DIR)
        for file in Path(config.path, "migrations").glob("[0-9]*.py")
    }


def reach_broker() -> None:
    """Connect to the broker, and leave again.

    Raises:
        Unready: the folder that is the broker can't be written.
        Exception: the broker can't be reached; the kind is the transport's.
    """
    if settings.CELERY_BROKER_URL.startswith("filesystem"):
        folder = settings.BROKER_DIR / "queue"
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise Unready("the broker's folder can't be read and written")
        return
    with current_app.connection_for_write(connect_timeout=SECONDS, transport_options=TIMEOUTS) as connection:
        connection.connect()


# Of Redis: a server that accepts and then says nothing.
TIMEOUTS = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS, "max_retries": 0}
