"""The heartbeat of a process, on a connection of its own: without it, other processes take this one for dead."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import UUID

import psycopg

from keys.connection import connect, patience
from usage.tokens import TOKENS_PER_SECOND

logger = logging.getLogger(__name__)

BEAT = """
WITH beat AS (UPDATE usage_process SET heartbeat_at = clock_timestamp() WHERE id = %s)
SELECT extract(epoch FROM clock_timestamp())::float8
"""
GIVE_BACK = "SELECT usage_give_back(NULL, make_interval(secs => %s))"
# A statement that a frozen database has taken runs when the database goes on, so this one has a date.
REAP = """
SELECT usage_reap(make_interval(secs => %s), %s)
WHERE clock_timestamp() BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""


class Watch:
    """Whether all processes have been able to beat for a whole lease: this one has, on the database's own clock, and
    neither stood still nor jumped. Otherwise those that are alive look dead for a moment: after the database was frozen
    or unreachable, or its clock was set.
    """

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.since: float | None = None
        self.last: tuple[float, float] = (0.0, 0.0)

    def note(self, now: float, clock: float) -> None:
        """Note a beat.

        Args:
            now: this machine's monotonic clock, in seconds.
            clock: the database's clock, in seconds.
        """
        passed, counted = now - self.last[0], clock - self.last[1]
        if self.since is None or passed > self.lease / 2 or abs(counted - passed) > self.lease / 2:
            self.since = now
        self.last = (now, clock)

    def is_long_enough(self) -> bool:
        return self.since is not None and self.last[0] - self.since >= self.lease


async def keep_alive(process: Callable[[], UUID], *, lease: float, retained: float) -> None:
    """Beat five times in a lease, until cancelled. Each time, the holds of dead processes are settled, if all processes
    could beat for a whole lease (`Watch`), and budgets get back what was retained for long enough.

    Args:
        process: its id, which changes when it was declared dead.
        lease: seconds after its last heartbeat at which a process is declared dead.
        retained: seconds after which budgets get back what was retained for calls without a known end.
    """
    connection: psycopg.AsyncConnection | None = None
    watch = Watch(lease)
    try:
        while True:
            await asyncio.sleep(lease / 5)
            try:
                connection = connection or await connect("gateway heartbeat")
                with patience(connection, lease / 3):
                    cursor = await connection.execute(BEAT, [process()])
                    row = await cursor.fetchone()
                    assert row is not None
                    clock: float = row[0]
                    watch.note(time.monotonic(), clock)
                    if watch.is_long_enough():
                        until = clock + lease / 2
                        await connection.execute(REAP, [lease, TOKENS_PER_SECOND, clock, until])
                    await connection.execute(GIVE_BACK, [retained])
            except (psycopg.Error, TimeoutError) as error:
                logger.warning("no heartbeat (%s)", type(error).__name__)
                if connection is not None:
                    await connection.close()
                    connection = None
    finally:
        if connection is not None:
            await connection.close()
