"""DOC"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from psycopg import errors

from usage.arbitration import Admission, Settlement, Verdict

# Members of a group at most: this bounds the length of a transaction.
GROUP = 256
GROUP_SECONDS = 15
ADMIT_LATE = "SELECT usage_admit_late(%s, %s::jsonb)"
ASK = "SELECT id, verdict, detail FROM usage_group(%s, %s, %s::jsonb, %s::uuid[], %s::jsonb)"
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
# Errors that one member of a group can cause; all others are the database's, and pass.
MEMBERS_FAULT = (errors.DataError, errors.IntegrityError)
INTERRUPT = "SELECT usage_interrupt(ARRAY[%s]::uuid[], ARRAY[clock_timestamp()], %s)"
# The transaction was rolled back, and the connection is as good as before.
PASSING = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.DeadlockDetected,
    errors.SerializationFailure,
)


class Replaced(Exception):
    """The writer's right has gone to the reaper: what is in the group was not written."""


class Moved(Exception):
    """What the arbiter had locked turned out not to be what counts now: ask again."""


class Waiting:
    """An admission in the queue, and the future that its waiter waits on."""

    __slots__ = ("admission", "answer", "since")

    def __init__(self, admission: Admission, answer: asyncio.Future[Verdict], since: float) -> None:
        self.admission = admission
        self.answer = answer
        self.since = since


class Group:
    """What goes to the arbiter in one transaction."""

    __slots__ = ("admissions", "releases", "settlements")

    def __init__(self, settlements: list[Settlement], releases: list[UUID], admissions: list[Waiting]) -> None:
        self.settlements = settlements
        self.releases = releases
        self.admissions = admissions

    def __len__(self) -> int:
        return len(self.settlements) + len(self.releases) + len(self.admissions)

    def let_go(self) -> None:
        """Turn admissions whose waiters are gone into releases: they may have been committed."""
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
