"""What a process asks the arbiter. usage/writer.py decides when it asks.

The arbiter is `usage_group` in usage/arbiter/group.sql: one transaction per group, settlements before admissions. By
the fence, it knows the latest connection of a process, and refuses groups that an older connection still sends.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import errors

from keys.connection import patience
from usage import functions
from usage.arbitration import Admission, Passed, Settlement, Verdict
from usage.link import Link
from usage.tokens import TOKENS_PER_SECOND

# Maximum number of members of a group: this bounds the length of a transaction.
GROUP = 256
GROUP_SECONDS = 15
ADMIT_LATE = "SELECT usage_admit_late(%s, %s::jsonb)"
ASK = "SELECT id, verdict, detail FROM usage_group($1::uuid, $2::bigint, $3::jsonb, $4::uuid[], $5::jsonb)"
REGISTER = """
WITH process AS (
    INSERT INTO usage_process (id, host, pid, arbiter) VALUES (%(id)s, %(host)s, %(pid)s, %(arbiter)s))
INSERT INTO usage_writer (process, fence, groups) VALUES (%(id)s, 1, 0)
"""
FENCE = "UPDATE usage_writer SET fence = fence + 1 WHERE process = %s RETURNING fence"
LEAVE = """
WITH writer AS (DELETE FROM usage_writer WHERE process = %(id)s)
DELETE FROM usage_process WHERE id = %(id)s AND NOT EXISTS (SELECT FROM usage_hold WHERE process = %(id)s)
"""
INTERRUPT = "SELECT usage_interrupt(ARRAY[%s]::uuid[], ARRAY[clock_timestamp()], %s)"

# Errors that one member of a group can cause. All others are temporary errors of the database.
MEMBERS_FAULT = (errors.DataError, errors.IntegrityError)
# After these errors, the transaction is rolled back and the connection still works.
PASSING = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.DeadlockDetected,
    errors.SerializationFailure,
)


encode = msgspec.json.Encoder().encode


class Replaced(Exception):
    """The reaper declared this process dead and removed its fence: the group was not written."""


class Moved(Exception):
    """The counters that apply have changed since the arbiter locked them: ask again."""


class Waiting:
    """An admission in the queue, and the future that its waiter waits on."""

    __slots__ = ("admission", "answer", "since")

    def __init__(self, admission: Admission, answer: asyncio.Future[Verdict], since: float) -> None:
        self.admission = admission
        self.answer = answer
        self.since = since


class Group:
    """The requests to the arbiter in one transaction."""

    __slots__ = ("admissions", "releases", "settlements")

    def __init__(self, settlements: list[Settlement], releases: list[UUID], admissions: list[Waiting]) -> None:
        self.settlements = settlements
        self.releases = releases
        self.admissions = admissions

    def __len__(self) -> int:
        return len(self.settlements) + len(self.releases) + len(self.admissions)

    def let_go(self) -> None:
        """Turn admissions that no task waits for any more into releases: they may have been committed."""
        self.releases += [waiting.admission.id for waiting in self.admissions if waiting.answer.done()]
        self.admissions = [waiting for waiting in self.admissions if not waiting.answer.done()]

    def halves(self) -> list[Group]:
        """The same members in two groups, in the same order: settlements, releases, admissions."""
        members: list[tuple[str, Any]] = [
            *(("settlements", member) for member in self.settlements),
            *(("releases", member) for member in self.releases),
            *(("admissions", member) for member in self.admissions),
        ]
        middle = len(members) // 2
        parts = []
        for half in (members[:middle], members[middle:]):
            part = Group([], [], [])
            for kind, member in half:
                getattr(part, kind).append(member)
            parts.append(part)
        return parts


def has_verdict(answer: asyncio.Future[Verdict]) -> bool:
    """Whether a waiter has its verdict."""
    return answer.done() and not answer.cancelled() and answer.exception() is None


async def register(connection: psycopg.AsyncConnection, process: UUID) -> None:
    """Register a process, with a fence of 1."""
    values = {"id": process, "host": socket.gethostname(), "pid": os.getpid(), "arbiter": functions.SCHEMA}
    await connection.execute(REGISTER, values)


async def move_fence(connection: psycopg.AsyncConnection, process: UUID) -> int | None:
    """The process's next fence, or None if it was declared dead."""
    row = await (await connection.execute(FENCE, [process])).fetchone()
    return row[0] if row else None


async def leave(connection: psycopg.AsyncConnection, process: UUID) -> None:
    """Unregister a process. While it has holds, its row stays for the reaper."""
    await connection.execute(LEAVE, {"id": process})


async def ask(link: Link, process: UUID, fence: int, group: Group, *, again: bool) -> dict[UUID, Verdict]:
    """The arbiter's verdicts on the members of a group, by call.

    Args:
        again: it may have been committed already.

    Raises:
        Replaced, Moved, psycopg.Error: nothing was committed; after a psycopg.OperationalError, it may have been.
    """
    releases = group.releases
    if again:
        # If an earlier attempt was committed, its holds are released first.
        releases = [*releases, *(waiting.admission.id for waiting in group.admissions)]
    values = (
        str(process).encode(),
        b"%d" % fence,
        encode(group.settlements) if group.settlements else None,
        f"{{{','.join(map(str, releases))}}}".encode() if releases else None,
        encode([waiting.admission for waiting in group.admissions]) if group.admissions else None,
    )
    try:
        rows = await link.run(values, GROUP_SECONDS)
    except psycopg.Error as error:
        if error.sqlstate == "BF001":
            raise Replaced from None
        if error.sqlstate == "BF002":
            raise Moved from None
        raise
    return {UUID((call or b"").decode()): Verdict((word or b"").decode(), details) for call, word, details in rows}


async def admit_late(connection: psycopg.AsyncConnection, process: UUID, calls: list[Passed]) -> None:
    """Admit calls that passed while the database was unavailable."""
    asked = msgspec.json.encode([late.asked() for late in calls]).decode()
    with patience(connection, GROUP_SECONDS):
        await connection.execute(ADMIT_LATE, [process, asked])


async def interrupt(connection: psycopg.AsyncConnection, call: UUID) -> None:
    """End the hold of a call whose end can't be written: it is charged now, and may be adjusted by hand."""
    await connection.execute(INTERRUPT, [call, TOKENS_PER_SECOND])
