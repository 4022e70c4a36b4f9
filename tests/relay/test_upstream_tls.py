"""Whom either HTTP client trusts: public authorities, and a company's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from django.conf import settings

from keys import destinations
from messages_api.process.outbound import upstream_client
from messages_api.upstream.client import UpstreamClient, UpstreamError
from tests.support.authority import Authority
from tests.support.client_kinds import CHUNKED, Caller, fetch
from tests.support.client_kinds import caller as caller
from tests.support.fake_provider import LAST_CHUNK, chunk


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """The https URL of a server, and a list of its connections' last bodies."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(b"")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen[-1] = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                for part in (CHUNKED, chunk(b"hel"), chunk(b"a" * 500_000), LAST_CHUNK):
                    writer.write(part)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1 << 24)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()


async def configured(caller: Caller, ca_bundle: Path | None) -> UpstreamClient:
    """The client of a deployment with that CA_BUNDLE."""
    await caller.client.close()
    return upstream_client(
        settings.CONFIGURATION.model_copy(
            update={"ca_bundle": ca_bundle, "upstream_client": caller.kind, "upstream_connect_seconds": 1}
        ),
        destinations.current(),
    )


def test_a_companys_own_authority_is_trusted_where_it_is_named(caller: Caller, authority: Authority) -> None:
    async def call() -> None:
        caller.client = await configured(caller, authority.bundle)
        async with serving(authority.server("127.0.0.1")) as (url, seen):
            for _ in range(3):
                got = await fetch(caller.client, url, b"b" * 100_000)
                assert got.body == b"hel" + b"a" * 500_000
            assert seen == [b"b" * 100_000] * (1 if caller.kind == "lean" else 3)
            await caller.client.close()
            await asyncio.sleep(0.05)

    caller.run(call())


@pytest.mark.parametrize("trouble", ["unknown authority", "wrong name", "no TLS"])
def test_nothing_is_sent_to_a_server_that_does_not_prove_its_name(
    caller: Caller, authority: Authority, trouble: str
) -> None:
    name = "bob.invalid" if trouble == "wrong name" else "127.0.0.1"
    tls = None if trouble == "no TLS" else authority.server(name)

    async def call() -> None:
        caller.client = await configured(caller, None if trouble == "unknown authority" else authority.bundle)
        async with serving(tls) as (url, seen):
            with pytest.raises(UpstreamError) as caught:
                await fetch(caller.client, url)
            assert (caught.value.kind, caught.value.sent) == ("not_connected", False)
            await asyncio.sleep(0.05)
            assert not any(seen)

    caller.run(call())
