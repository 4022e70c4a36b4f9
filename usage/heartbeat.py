"""The heartbeat of a process, on a connection of its own: without it, other processes take this one for dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

import psycopg

from keys.connection import connect, patience
from usage.tokens import TOKENS_PER_SECOND

logger = logging.getLogger(__name__)

BEAT = "UPDATE usage_process SET heartbeat_at = clock_timestamp() WHERE id = %s"
REAP = "SELECT usage_reap(make_interval(secs => %s), %s), usage_give_back(NULL, make_interval(secs => %s))"


async def keep_alive(process: Callable[[], UUID], *, lease: float, retained: float) -> None:
    """Beat five times in a lease, until cancelled. Each time, the holds of dead processes are settled, and budgets get
    back what was retained for long enough.

    Args:
        process: its id, which changes when it was declared dead.
        lease: seconds after its last heartbeat at which a process is declared dead.
        retained: seconds after which budgets get back what was retained for calls without a known end.
    """
    connection: psycopg.AsyncConnection | None = None
    try:
        while True:
            await asyncio.sleep(lease / 5)
            try:
                connection = connection or await connect("gateway heartbeat")
                with patience(connection, lease / 3):
                    await connection.execute(BEAT, [process()])
                    await connection.execute(REAP, [lease, TOKENS_PER_SECOND, retained])
            except (psycopg.Error, TimeoutError) as error:
                logger.warning("no heartbeat (%s)", type(error).__name__)
                if connection is not None:
                    await connection.close()
                    connection = None
    finally:
        if connection is not None:
            await connection.close()
