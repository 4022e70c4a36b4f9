"""A PostgreSQL connection for the event loop, outside of Django's ORM.

An ORM connection without Django's request signals stays dead after the database was restarted, and every ORM query
costs a hop to a thread; the relay's path can afford neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings

# Bounds on every statement, so that nothing waits for ever: milliseconds.
OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=10000 -c idle_in_transaction_session_timeout=10000"
    " -c synchronous_commit=on -c timezone=UTC -c jit=off -c plan_cache_mode=force_generic_plan"
)

# A network that swallows everything must not hold anybody for longer; these are ignored on a local socket.
NETWORK = {"tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
SECONDS = 5
# So many may wait for a reader's one connection.
WAITING = 500


class TooManyWait(psycopg.OperationalError):
    """The queue for the connection is full."""


def parameters() -> dict[str, Any]:
    """libpq's parameters for the database of Django's settings."""
    database: dict[str, Any] = dict(settings.DATABASES["default"])
    given = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    options: dict[str, Any] = database.get("OPTIONS", {})
    return NETWORK | {name: value for name, value in given.items() if value} | options


async def connect(application: str) -> psycopg.AsyncConnection:
    """A new connection in autocommit mode, with bounds on every statement.

    Raises:
        psycopg.OperationalError: the database can't be reached within five seconds.
    """
    return await psycopg.AsyncConnection.connect(
        **parameters(), autocommit=True, options=OPTIONS, application_name=application, connect_timeout=5
    )


class Reader:
    """One connection for reading, opened on first use and again after it was lost."""

    def __init__(self, application: str) -> None:
        self.application = application
        self.connection: psycopg.AsyncConnection | None = None
        self.lock = asyncio.Lock()
        self.waiting = 0

    async def fetch(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, tried once more on a new connection where the old one turns out to be dead.

        Raises:
            psycopg.Error: the database can't be reached, or refuses the query.
        """
        if self.waiting >= WAITING:
            raise TooManyWait("too many wait for the database")
        self.waiting += 1
        try:
            async with self.lock:
                fresh = self.connection is None
                try:
                    return await self._fetch(query, values)
                except psycopg.OperationalError:
                    await self._drop()
                    if fresh:
                        raise
                    return await self._fetch(query, values)
        finally:
            self.waiting -= 1

    async def _fetch(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            async with asyncio.timeout(SECONDS):
                if self.connection is None:
                    self.connection = await connect(self.application)
                cursor = await self.connection.execute(query, values)
                return await cursor.fetchall() if cursor.description else []
        except TimeoutError:
            raise psycopg.OperationalError("no answer in time") from None
        except asyncio.CancelledError:
            await self._drop()
            raise

    async def _drop(self) -> None:
        if self.connection is not None:
            connection, self.connection = self.connection, None
            await connection.close()

    async def close(self) -> None:
        """Close the connection; the next query opens a new one."""
        async with self.lock:
            await self._drop()
