"""A process's cache of keys: one query serves all calls that ask at once, and a stale key is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from keys.connection import Reader
from keys.directory import Directory
from keys.models import VirtualKey
from tests.server.test_authentication import issue_and_forget
from tests.support.gateway import Caller, issue

pytestmark = pytest.mark.either_server


class CountingReader(Reader):
    """Counts the queries for credentials."""

    asked = 0

    async def fetch(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        self.asked += "keys_credential" in query
        return await super().fetch(query, values)


@pytest.fixture
def alice(served: None, upstream: Any) -> Caller:
    return issue(upstream)


async def with_directory(do: Callable[[Directory, CountingReader], Awaitable[None]]) -> None:
    reader = CountingReader("test")
    try:
        await do(Directory(reader), reader)
    finally:
        await reader.close()


async def test_many_calls_with_a_new_key_at_once_make_one_query(alice: Caller) -> None:
    async def ask(directory: Directory, reader: CountingReader) -> None:
        found = await asyncio.gather(*(directory.find(alice.key) for _ in range(6000)))
        assert {key.name for key in found if key} == {alice.virtual_key.name}
        assert None not in found
        assert reader.asked == 1

    await with_directory(ask)


async def test_many_calls_with_a_stale_key_at_once_make_one_query_and_get_the_new_key(alice: Caller) -> None:
    async def ask(directory: Directory, reader: CountingReader) -> None:
        stale = await directory.find(alice.key)
        rows = VirtualKey.objects.filter(pk=alice.virtual_key.pk)
        await sync_to_async(rows.update)(allowed_models=["claude-*"])
        found = await asyncio.gather(*(directory.refresh(alice.key, than=stale) for _ in range(100)))
        assert {key.allowed for key in found if key} == {("claude-*",)}
        assert reader.asked == 2
        assert await directory.refresh(alice.key, than=found[0]) == found[0]
        assert reader.asked == 3  # who holds the newest is not taken at their word

    await with_directory(ask)


async def test_an_unknown_credential_is_looked_up_once_in_a_while(alice: Caller) -> None:
    nobodys = await sync_to_async(issue_and_forget)()

    async def ask(directory: Directory, reader: CountingReader) -> None:
        assert set(await asyncio.gather(*(directory.find(nobodys) for _ in range(100)))) == {None}
        assert reader.asked == 1
        directory.unknown_since -= 10
        assert await directory.find(nobodys) is None
        assert reader.asked == 2

    await with_directory(ask)
