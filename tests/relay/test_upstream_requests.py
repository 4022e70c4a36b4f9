"""What either HTTP client sends arrives as it was given."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.client_kinds import LENGTH_5, Caller, Got, fetch, lines
from tests.support.client_kinds import caller as caller
from tests.support.client_kinds import lean as lean
from tests.support.fake_provider import Upstream, whole


@pytest.mark.parametrize("size", [0, 1, 1_000_000, 8_000_000])
def test_a_body_arrives_whole(caller: Caller, upstream: Upstream, size: int) -> None:
    upstream.answer = whole(200, b"ab")
    body = os.urandom(size)
    assert caller.get(upstream.url, body).body == b"ab"
    assert upstream.last.body == body


# Bytes


def test_header_bytes_arrive_as_they_were_sent(caller: Caller, upstream: Upstream) -> None:
    sent = [b"caf\xc3\xa9", b""] + ([b"\xff\xfe latin-1: \xe9"] if caller.kind == "lean" else [])
    upstream.answer = [lines(b"content-length: 0", *[b"X-Value: " + value for value in sent])]
    got = caller.get(upstream.url, headers=[(b"x-value", value) for value in sent])
    assert [value for name, value in got.headers if name == b"x-value"] == sent
    assert [value for name, value in upstream.last.headers if name == b"x-value"] == sent


@pytest.mark.parametrize("value", [b"a\r\nx-b: c", b"a\nb", b"a\rb"])
def test_a_header_with_a_line_break_is_not_sent(lean: Caller, upstream: Upstream, value: bytes) -> None:
    error = lean.fail(upstream.url, headers=[(b"x-a", value)])
    assert (error.kind, error.sent) == ("bad_header", False)
    assert not upstream.seen


@pytest.mark.parametrize(
    "target",
    ["/", "/v1/messages?beta=true", "/a%2Fb%c3%a9;v=1//c/../d?x=%20&y=;a=b?c&", "/v1?", "/a:b@c?http://d/e#", "?x=y"],
)
def test_a_path_and_its_query_arrive_as_they_were_sent(caller: Caller, upstream: Upstream, target: str) -> None:
    if caller.kind == "aiohttp" and target in ("/v1?", "?x=y"):
        pytest.skip("aiohttp drops an empty query, which does no harm")
    upstream.answer = whole(200, b"ab")
    caller.get(upstream.url + target)
    assert upstream.last.target == (target if target.startswith("/") else "/" + target).removesuffix("#")


def test_bytes_of_a_query_that_are_no_ascii_arrive_as_they_were_sent(lean: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"ab")
    query = bytes(range(0x80, 0x100)).decode("latin-1")
    lean.get(f"{upstream.url}/v1?{query}")
    assert upstream.last.target == f"/v1?{query}"


def test_a_user_in_a_url_stays_out_of_the_host(caller: Caller, upstream: Upstream) -> None:
    if caller.kind == "aiohttp":
        pytest.skip("aiohttp makes an Authorization header of it")
    upstream.answer = whole(200, b"ab")
    caller.get(upstream.url.replace("//", "//alice:secret@"))
    assert upstream.last.values("host") == [upstream.url.removeprefix("http://")]
    assert b"secret" not in upstream.last.head


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6 is missing")
def test_an_ipv6_address_is_called(caller: Caller) -> None:
    async def call() -> tuple[Got, bytes]:
        heads = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(LENGTH_5 + b"hello")
            await writer.drain()
            writer.close()

        try:
            server = await asyncio.start_server(serve, "::1", 0)
        except OSError:
            pytest.skip("IPv6 is missing")
        async with server:
            url = f"http://[::1]:{server.sockets[0].getsockname()[1]}/v1"
            return await fetch(caller.client, url), heads[0]

    got, head = caller.run(call())
    assert got.body == b"hello"
    assert b"\r\nhost: [::1]:" in head.lower()
