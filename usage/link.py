"""A prepared statement on a connection of psycopg's, without psycopg's cursors.

The writer runs the same statement for each group. A cursor of psycopg's takes 150 Python calls for it and registers
the socket with the event loop twice; this takes 20, and the socket stays registered. Everything else that happens on
the connection, such as opening and closing it, stays psycopg's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from keys.alarms import Timer
from keys.connection import cut

NAME = b"bursar_group"
# How long a cancelled statement may take to end.
CANCEL_SECONDS = 5
# How often a statement that takes long looks at its socket by itself: where a peer has reset a connection, uvloop sees
# an error (libuv's POLLERR), and no longer calls the reader.
LOOK_SECONDS = 0.1
SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)

Row = list[bytes | None]


class Link:
    """Runs one statement on one connection, again and again. Values and results are PostgreSQL's text format.

    Nothing else may use the connection while the statement runs.

    Args:
        statement: with placeholders like `$1::uuid`.
    """

    def __init__(self, connection: psycopg.AsyncConnection, statement: bytes) -> None:
        self.connection = connection
        self.statement = statement
        self.loop = asyncio.get_running_loop()
        self.prepared = False
        self.results: list[pq.abc.PGresult] = []
        self.answered: asyncio.Future[None] | None = None
        self.looking: Timer | None = None
        # The same socket under a number of its own, because psycopg registers and removes its number each time.
        self.file = os.dup(connection.fileno())
        self.watched = False

    def close(self) -> None:
        """Let go of the socket. The connection itself stays open."""
        self._stop_watching()
        os.close(self.file)

    async def run(self, values: Sequence[bytes | None], seconds: float) -> list[Row]:
        """Run the statement, and return its rows.

        Args:
            seconds: after this time the socket is shut down, as a network failure would do.

        Raises:
            psycopg.Error: as from a cursor's `execute`.
        """
        connection, timer = self.connection.pgconn, Timer(self.loop, seconds, self._cut)
        try:
            if not self.prepared:
                await self._ask(lambda: connection.send_prepare(NAME, self.statement))
                self.prepared = True
            result = await self._ask(lambda: connection.send_query_prepared(NAME, values))
            columns = range(result.nfields)
            return [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]
        except asyncio.CancelledError:
            await self._give_up()
            raise
        finally:
            timer.cancel()

    def _cut(self) -> None:
        cut(self.connection)

    async def _ask(self, send: Callable[[], None]) -> pq.abc.PGresult:
        send()
        while self.connection.pgconn.flush():
            await self._room()
        result = await self._result()
        if result.status not in SUCCESS:
            raise error_from_result(result, encoding="utf-8")
        return result

    async def _room(self) -> None:
        """Wait until the server takes more, or says something."""
        room = self.loop.create_future()
        self._watch()
        self.loop.add_writer(self.file, self._has_room, room)
        try:
            await self._wait(room)
        finally:
            self.loop.remove_writer(self.file)

    async def _wait(self, answered: asyncio.Future[None]) -> None:
        self.answered, self.looking = answered, Timer(self.loop, LOOK_SECONDS, self._look)
        try:
            await answered
        finally:
            self.answered = None
            self.looking.cancel()

    def _look(self) -> None:
        """Look at the socket now and then, as long as the statement waits."""
        if self.answered is not None and not self.answered.done():
            self.looking = Timer(self.loop, LOOK_SECONDS, self._look)
            self._read()

    def _has_room(self, room: asyncio.Future[None]) -> None:
        if not room.done():
            room.set_result(None)

    async def _result(self) -> pq.abc.PGresult:
        self._watch()
        while not self._has_ended():
            await self._wait(self.loop.create_future())
        *_, last = self.results
        self.results = []
        return last

    def _has_ended(self) -> bool:
        """Whether all results have arrived."""
        connection = self.connection.pgconn
        while not connection.is_busy():
            result = connection.get_result()
            if result is None:
                if not self.results:
                    raise psycopg.OperationalError("the connection is lost")
                return True
            self.results.append(result)
        return False

    async def _give_up(self) -> None:
        """End a statement that no task waits for any more, so that the connection can be used again."""
        with contextlib.suppress(psycopg.Error):
            await self.connection.cancel_safe(timeout=CANCEL_SECONDS)
            await self._result()
        self.results = []

    def _watch(self) -> None:
        if not self.watched:
            self.watched = True
            self.loop.add_reader(self.file, self._read)

    def _stop_watching(self) -> None:
        if self.watched:
            self.watched = False
            self.loop.remove_reader(self.file)

    def _read(self) -> None:
        if self.answered is None:
            # psycopg's own statement, or the server has closed the connection: not for this link.
            self._stop_watching()
            return
        if self.answered.done():
            return
        try:
            self.connection.pgconn.consume_input()
        except psycopg.Error as error:
            self._stop_watching()
            self.answered.set_exception(error)
        else:
            if not self.connection.pgconn.is_busy():
                self.answered.set_result(None)
