"""PostgreSQL connections for the event loop, without Django's ORM.

Outside of Django's requests, an ORM connection stays dead after the database restarts, and every ORM query hops to a
thread. The relay can afford neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import psycopg
from django.conf import settings
from django.db import connection as django_connection

Result = TypeVar("Result")

# The values of a query's placeholders, by position or by name.
Values = Sequence[object] | Mapping[str, object]

# Limits on every statement, in milliseconds, so that no statement waits endlessly.
OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=10000 -c idle_in_transaction_session_timeout=10000"
    " -c synchronous_commit=on -c timezone=UTC -c plan_cache_mode=force_generic_plan"
)

# Limits on how long a call waits for a network that silently drops packets. A local socket ignores them.
NETWORK = {"tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
SECONDS = 5
# Maximum number of queries waiting for a reader's one connection.
WAITING = 4000


class TooManyWait(psycopg.OperationalError):
    """The queue for the connection is full."""


def parameters(bounds: str = "") -> dict[str, Any]:
    """libpq's parameters for the database in Django's settings.

    Args:
        bounds: server options to add, as `-c name=value`.
    """
    database: dict[str, Any] = dict(settings.DATABASES["default"])
    given = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    options: dict[str, Any] = database.get("OPTIONS", {})
    given["options"] = f"{options.get('options', '')} {bounds}".strip()
    return NETWORK | options | {name: value for name, value in given.items() if value}


async def connect(application: str) -> psycopg.AsyncConnection:
    """Open a connection in autocommit mode, with limits on every statement.

    Raises:
        psycopg.OperationalError: the database can't be reached within five seconds.
    """
    return await psycopg.AsyncConnection.connect(
        **parameters(OPTIONS), autocommit=True, application_name=application, connect_timeout=5, client_encoding="utf8"
    )


@contextlib.contextmanager
def patience(connection: psycopg.AsyncConnection, seconds: float) -> Iterator[None]:
    """Make a statement within this block fail with an OperationalError if the server doesn't answer in time.

    This closes the socket. A timeout of the await would take longer when the server is silent, because psycopg then
    asks the server to cancel the statement and waits for that.
    """
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def cut(connection: psycopg.AsyncConnection) -> None:
    """Shut down a connection's socket while a statement waits on it, as a network failure would."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)


class Reader:
    """One connection for short queries, opened at its first use and reopened after it is lost."""

    def __init__(self, application: str) -> None:
        self.application = application
        self.connection: psycopg.AsyncConnection | None = None
        self.lock = asyncio.Lock()
        self.waiting = 0

    async def fetch(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows. If the connection turns out to be dead, run it once more on a new one.

        Raises:
            psycopg.Error: the database can't be reached, or refuses the query.
            TooManyWait: too many queries wait for the connection.
        """
        if self.waiting >= WAITING:
            raise TooManyWait("too many queries wait for the database")
        self.waiting += 1
        try:
            try:
                async with asyncio.timeout(SECONDS):
                    await self.lock.acquire()
            except TimeoutError:
                raise psycopg.OperationalError("the queries ahead of this one have no answer yet") from None
            try:
                return await self._fetch_twice(query, values)
            finally:
                self.lock.release()
        finally:
            self.waiting -= 1

    async def _fetch_twice(self, query: str, values: Values) -> list[tuple[Any, ...]]:
        fresh = self.connection is None
        try:
            return await self._fetch(query, values)
        except psycopg.OperationalError:
            await self._drop()
            if fresh:
                raise
            return await self._fetch(query, values)

    async def _fetch(self, query: str, values: Values) -> list[tuple[Any, ...]]:
        try:
            if self.connection is None:
                self.connection = await connect(self.application)
            with patience(self.connection, SECONDS):
                cursor = await self.connection.execute(query, values)
                return await cursor.fetchall() if cursor.description else []
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


class BlockingReader(Reader):
    """A reader on Django's connection of this thread, for pages and commands. Each query blocks the thread, so no event
    loop may run in it: see `run_blocking`.
    """

    def __init__(self) -> None:
        super().__init__("")

    async def fetch(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows.

        Raises:
            django.db.Error: the database can't be reached, or refuses the query.
        """
        with django_connection.cursor() as cursor:
            cursor.execute(query, cast(Any, values))
            return list(cursor.fetchall()) if cursor.description else []


def run_blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that awaits nothing but a `BlockingReader`, without an event loop.

    Raises:
        RuntimeError: it awaits something else.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    raise RuntimeError("the coroutine waits for something besides a BlockingReader")
