"""Connections of both HTTP clients: made, used again and closed in time, and none is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from messages_api.upstream import lean as lean_client
from messages_api.upstream.client import UpstreamError
from messages_api.upstream.lean import LeanClient
from messages_api.upstream.lean_connection import Connection
from tests.support.client_kinds import (
    CHUNKED,
    CONNECT_SECONDS,
    LENGTH_5,
    Caller,
    fetch,
    in_turn,
    lines,
    make,
    mine,
    sockets,
)
from tests.support.client_kinds import caller as caller
from tests.support.client_kinds import lean as lean
from tests.support.fake_provider import End, Step, Upstream, chunk, pieces, whole


class Reached(threading.Event):
    """A step that sets an event when the provider reaches it, and doesn't wait."""

    def is_set(self) -> bool:
        self.set()
        return True


@pytest.mark.parametrize("pause", [0, 0.001, 0.01], ids=["at once", "soon", "later"])
@pytest.mark.parametrize("end", ["", "close"], ids=["kept", "closing"])
def test_a_second_answer_is_never_given_to_the_next_request(
    caller: Caller, upstream: Upstream, pause: float, end: str
) -> None:
    reached = Reached()
    headers = (("connection", end),) if end else ()
    first, smuggled = whole(200, b"first", *headers), whole(200, b"smuggled")
    upstream.answer = in_turn(
        [first[0] + smuggled[0]] if not pause else [*first, pause, *smuggled, reached],
        *[whole(200, b"answer %d" % number) for number in range(3)],
    )
    with contextlib.nullcontext() if caller.kind == "lean" else contextlib.suppress(UpstreamError):
        assert caller.get(upstream.url).body == b"first"
    if pause and not end:
        assert reached.wait(30)
        caller.idle()
    for number in range(3):
        assert caller.get(upstream.url).body == b"answer %d" % number


def test_a_longer_body_than_was_said_is_not_given_to_the_next_request(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = in_turn([LENGTH_5 + b"hello, Alice"], whole(200, b"next"))
    with contextlib.nullcontext() if caller.kind == "lean" else contextlib.suppress(UpstreamError):
        assert caller.get(upstream.url).body == b"hello"
    assert caller.get(upstream.url).body == b"next"


def test_data_on_an_idle_connection_ends_it(caller: Caller, upstream: Upstream) -> None:
    go, sent = threading.Event(), Reached()
    upstream.answer = in_turn([*whole(200, b"first"), go, *whole(200, b"smuggled"), sent, 0.2], whole(200, b"next"))
    assert caller.get(upstream.url).body == b"first"
    go.set()
    assert sent.wait(30)  # the event loop doesn't run meanwhile: it can't have heard of it
    assert caller.get(upstream.url).body == b"next"


def test_an_answer_closed_under_its_reader_leaves_the_next_one_alone(lean: Caller, upstream: Upstream) -> None:
    """A task that is about to wake up must not find another call's answer on the connection."""
    first, last = threading.Event(), threading.Event()
    upstream.answer = in_turn([LENGTH_5 + b"hel", first, b"lo"], [last, *whole(200, b"next")])

    async def read_both() -> tuple[bytes, bytes]:
        answer = await lean.client.send("POST", upstream.url, [], b"")
        assert await answer.read() == b"hel"
        reader = asyncio.ensure_future(answer.read())
        await asyncio.sleep(0)
        connection = answer.connection  # type: ignore[attr-defined]
        while not connection.complete:
            first.set()
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                connection.data_received(os.read(connection.transport.get_extra_info("socket").fileno(), 99))
        answer.close()
        assert not lean.client.kept  # type: ignore[attr-defined]
        following = asyncio.ensure_future(fetch(lean.client, upstream.url))
        stale = await asyncio.wait_for(reader, 30)
        last.set()
        return stale, (await following).body

    # The test takes the bytes from under the event loop, so that all of this happens in one of its turns.
    assert lean.run(read_both()) == (b"lo", b"next")


def test_connections_are_used_again(caller: Caller, upstream: Upstream) -> None:
    before = upstream.connections
    for number in range(10):
        upstream.answer = pieces(200, [b"a", b"b"]) if number % 2 else whole(200, b"ab")
        assert caller.get(upstream.url).body == b"ab"
    assert upstream.connections == before + (1 if caller.kind == "lean" else 10)  # aiohttp keeps none


@pytest.mark.parametrize("status", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_a_connection_that_the_provider_will_close_is_not_used_again(
    caller: Caller, upstream: Upstream, status: bytes
) -> None:
    headers = [b"content-length: 2", *([b"connection: close"] if b"1.1" in status else [])]
    upstream.answer = [lines(*headers, status=status) + b"ab"]
    before = upstream.connections
    for _ in range(3):
        assert caller.get(upstream.url).body == b"ab"
    assert upstream.connections == before + 3


@pytest.mark.parametrize("end", End)
def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(
    caller: Caller, upstream: Upstream, end: End
) -> None:
    if caller.kind == "aiohttp":
        pytest.skip("aiohttp learns of it only when its event loop runs")
    upstream.answer = in_turn([*whole(200, b"first"), end], [*whole(200, b"second"), end], whole(200, b"third"))
    assert caller.get(upstream.url).body == b"first"
    time.sleep(0.1)
    assert caller.get(upstream.url).body == b"second"
    caller.idle(0.1)
    assert caller.get(upstream.url).body == b"third"


def test_idle_connections_are_closed_in_time(lean: Caller, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_client, "KEEP_ALIVE_SECONDS", 0.1)
    upstream.answer = whole(200, b"ab")
    client = lean.client
    assert isinstance(client, LeanClient)
    before = upstream.connections
    for _ in range(4):
        assert lean.get(upstream.url).body == b"ab"
        lean.idle(0.04)
    assert (upstream.connections - before, len(client.connections)) == (1, 1)
    lean.idle(0.3)
    assert (len(client.connections), client.kept, client.sweeping) == (0, {}, None)
    assert lean.get(upstream.url).body == b"ab"


def test_closing_the_client_closes_every_connection(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = lambda seen: whole(200, b"ab") if seen.target == "/kept" else [CHUNKED + chunk(b"a"), 5.0]

    async def open_and_close() -> set[str]:
        before = sockets()
        client = await make(caller.kind)
        await fetch(client, upstream.url + "/kept")
        answer = await client.send("POST", upstream.url + "/open", [], b"")
        await client.close()
        await asyncio.sleep(0.05)
        with contextlib.suppress(UpstreamError, RuntimeError):  # aiohttp's is a RuntimeError
            while await answer.read():
                pass
            raise AssertionError("it passed for whole")
        answer.close()
        return mine(before)

    assert not caller.run(open_and_close())


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The URL of a server to which no connection is made: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_call_that_is_cancelled_while_it_connects_leaves_no_socket(caller: Caller) -> None:
    async def cancel(url: str) -> set[str]:
        before = sockets()
        task = asyncio.ensure_future(fetch(caller.client, url))
        await asyncio.sleep(0.1)
        assert len(sockets() - before) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        return sockets() - before

    with deaf() as url:
        assert not caller.run(cancel(url))


def test_a_connection_that_is_not_made_in_time_is_an_error_and_nothing_was_sent(caller: Caller) -> None:
    with deaf() as url:
        began = time.monotonic()
        error = caller.fail(url)
        assert (error.kind, error.sent) == ("not_connected", False)
        assert CONNECT_SECONDS * 0.9 < time.monotonic() - began < CONNECT_SECONDS + 20


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://nowhere.invalid", "https://127.0.0.1:1", "http://[::1]:1", "http://x" * 99]
)
def test_nothing_was_sent_to_an_unreachable_provider(caller: Caller, url: str) -> None:
    error = caller.fail(url)
    assert (error.kind, error.sent) == ("not_connected", False)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1",
        "127.0.0.1",
        "http://",
        "http://[::1",
        "http://a:99999",
        "http://a/ b",
        "http://a/\r\nx: y",
        "http://a/\u20ac",
        "http://b\u00fccher.invalid",
    ],
)
def test_an_invalid_url_is_an_error_and_nothing_was_sent(lean: Caller, url: str) -> None:
    error = lean.fail(url)
    assert (error.kind, error.sent) == ("not_connected", False)


# Nothing is left behind


def test_two_thousand_calls_leave_no_socket_and_nothing_to_the_garbage_collector(
    lean: Caller, upstream: Upstream
) -> None:
    kinds: list[list[Step]] = [
        [*whole(200, b"ab", ("connection", "close"))],
        [CHUNKED + chunk(b"a"), End.CLOSE],
        [b"HELLO\r\n\r\n"],
        [LENGTH_5 + b"hello", End.CLOSE],
    ]

    async def call(many: int) -> None:
        for number in range(many):
            upstream.answer = kinds[number % len(kinds)]
            with contextlib.suppress(UpstreamError):
                await fetch(lean.client, upstream.url)
        await asyncio.sleep(0.05)

    lean.run(call(8))
    gc.collect()
    open_before = len(sockets())
    gc.disable()
    try:
        lean.run(call(2_000))
        left = sum(type(thing) is Connection for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 1
    assert len(sockets()) <= open_before + 1
