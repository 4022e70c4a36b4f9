"""The writer's own way to run its statement: what it returns and raises, and that the connection stays usable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
import uvloop
from psycopg import errors

from keys.connection import connect
from tests.support.database_proxy import Proxy
from tests.support.gateway import admin_connection
from usage.link import Link

STATEMENT = b"SELECT length($1::text), 10 / $2::int, pg_sleep($3::float8)::text"
LONG = b"a" * (8 << 20)


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Link]:
    connection = await connect("link")
    link = Link(connection, STATEMENT)
    try:
        yield link
    finally:
        link.close()
        await connection.close()


async def works(link: Link) -> bool:
    return await link.run((b"abc", b"5", b"0"), 20) == [[b"3", b"2", b""]]


async def test_a_statement_that_the_socket_does_not_take_at_once_is_sent_whole(apart: str) -> None:
    async with linked() as link:
        assert await link.run((LONG, b"1", b"0"), 20) == [[b"%d" % len(LONG), b"10", b""]]
        assert await link.run((None, b"1", b"0"), 20) == [[None, b"10", b""]]
        assert await works(link)


async def test_an_error_of_the_database_has_its_type_and_the_connection_stays(apart: str) -> None:
    async with linked() as link:
        for _ in range(2):
            with pytest.raises(errors.DivisionByZero):
                await link.run((b"abc", b"0", b"0"), 20)
            assert await works(link)
        # psycopg's own statements and the link's take turns.
        assert await (await link.connection.execute("SELECT 1")).fetchone() == (1,)
        assert await works(link)


async def test_a_cancelled_statement_ends_and_the_connection_stays(apart: str) -> None:
    async with linked() as link:
        assert await works(link)
        running = asyncio.ensure_future(link.run((b"abc", b"1", b"60"), 120))
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await works(link)


async def test_a_lost_connection_and_a_silent_one_are_operational_errors(apart: str) -> None:
    async with linked() as link:
        assert await works(link)
        with admin_connection() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [link.connection.info.backend_pid])
        await asyncio.sleep(0.01)  # the loop sees the end while nothing runs
        with pytest.raises(psycopg.OperationalError):
            await works(link)
    async with linked() as link:
        with pytest.raises(psycopg.OperationalError):
            await link.run((b"abc", b"1", b"60"), 0.05)


def test_a_connection_that_was_reset_while_nothing_ran_is_an_operational_error(
    apart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(proxy: Proxy) -> None:
        async with linked() as link:
            assert await works(link)
            proxy.cut_all()
            await asyncio.sleep(0.05)
            with pytest.raises(psycopg.OperationalError):
                async with asyncio.timeout(10):
                    await link.run((b"abc", b"1", b"0"), 60)

    # Over TCP and with the loop of web processes: what is sent to a peer that has closed resets the connection.
    with Proxy() as proxy:
        monkeypatch.setattr("keys.connection.parameters", lambda bounds: proxy.parameters | {"options": bounds})
        uvloop.run(lost(proxy))
