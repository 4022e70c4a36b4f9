"""Request bodies that go out as they come, through both HTTP clients, to providers of every kind."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
import uvloop

from messages_api.upstream.client import StreamedBody, UpstreamError
from messages_api.upstream.lean import LeanClient
from tests.support.client_kinds import Caller, Got, calling, raw_server, remade, rest, sockets, wait
from tests.support.fake_provider import Upstream, whole

PART = 64 * 1024


@pytest.fixture(params=["lean", "aiohttp"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Either client."""
    yield from calling(request.param, uvloop.new_event_loop)


@pytest.fixture
def lean() -> Iterator[Caller]:
    """The lean client."""
    yield from calling("lean", uvloop.new_event_loop)


class Parts:
    """Parts of a body, and how many were taken; a number among them is a pause in seconds, an error is raised."""

    def __init__(self, *steps: bytes | float | Exception, repeat: int = 1) -> None:
        self.steps = steps
        self.repeat = repeat
        self.taken = 0
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(self.repeat):
                for step in self.steps:
                    if isinstance(step, bytes):
                        self.taken += 1
                        yield step
                    elif isinstance(step, Exception):
                        raise step
                    else:
                        await asyncio.sleep(step)
        finally:
            self.ended = True


async def send(
    caller: Caller, url: str, parts: Parts, size: int | None = None, written: list[int] | None = None
) -> Got:
    on_write = None if written is None else lambda: written.append(parts.taken)
    return await rest(await caller.client.send("POST", url, [], StreamedBody(aiter(parts), size), on_write))


def read_to(link: socket.socket, end: bytes) -> bytes:
    """What arrives up to and with these bytes, or the end of the connection."""
    read = b""
    while end not in read and (data := link.recv(PART)):
        read += data
    return read


@pytest.mark.parametrize("known", [True, False], ids=["of known size", "in chunks"])
def test_it_arrives_whole_and_framed_as_its_size_is_known(caller: Caller, upstream: Upstream, known: bool) -> None:
    upstream.answer = whole(200, b"ab")
    body = os.urandom(3_000_000)
    parts = Parts(*(body[at : at + 70_000] for at in range(0, len(body), 70_000)))
    written: list[int] = []
    got = caller.run(send(caller, upstream.url, parts, len(body) if known else None, written))
    assert (got.status, got.body) == (200, b"ab")
    assert upstream.last.body == body
    assert upstream.last.values("content-length") == ([str(len(body))] if known else [])
    assert upstream.last.values("transfer-encoding") == ([] if known else ["chunked"])
    assert len(written) == 1
    assert written[0] <= 1


@pytest.mark.parametrize("size", [5, None], ids=["of known size", "in chunks"])
def test_an_empty_part_is_not_its_end(caller: Caller, upstream: Upstream, size: int | None) -> None:
    upstream.answer = whole(200, b"ab")
    caller.run(send(caller, upstream.url, Parts(b"", b"hel", b"", b"lo", b""), size))
    assert upstream.last.body == b"hello"


@pytest.mark.parametrize("size", [0, None])
def test_it_may_be_empty(caller: Caller, upstream: Upstream, size: int | None) -> None:
    upstream.answer = whole(200, b"ab")
    assert caller.run(send(caller, upstream.url, Parts(), size)).body == b"ab"
    assert upstream.last.body == b""


def test_it_goes_out_part_by_part(caller: Caller) -> None:
    arrived = threading.Event()

    def serve(link: socket.socket) -> None:
        assert read_to(link, b"first")
        arrived.set()
        read_to(link, b"second")
        link.sendall(whole(200, b"ab")[0])

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        while not arrived.is_set():
            await asyncio.sleep(0.01)
        yield b"second"

    async def call(url: str) -> Got:
        return await rest(await caller.client.send("POST", url, [], StreamedBody(parts(), 11)))

    with raw_server(serve) as url:
        assert caller.run(asyncio.wait_for(call(url), 5)).body == b"ab"


def test_the_connection_is_used_again_after_it(lean: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"ab")
    before = upstream.connections
    for size in (10, None, 10):
        assert lean.run(send(lean, upstream.url, Parts(b"hello", b"hello"), size)).body == b"ab"
        assert lean.get(upstream.url, b"{}").body == b"ab"
    assert upstream.connections == before + 1


# Slow ones


@pytest.mark.parametrize("size", [3200 * PART, None], ids=["of known size", "in chunks"])
def test_no_more_is_taken_than_the_provider_has_room_for(caller: Caller, size: int | None) -> None:
    go = threading.Event()
    read = 0

    def serve(link: socket.socket) -> None:
        nonlocal read
        go.wait(5)
        while read < 3200 * PART:
            read += len(link.recv(1 << 20))
        link.settimeout(0.2)
        link.sendall(whole(200, b"ab", ("connection", "close"))[0])

    async def call(url: str) -> Got:
        parts = Parts(b"a" * PART, repeat=3200)
        calling = asyncio.ensure_future(send(caller, url, parts, size))
        await asyncio.sleep(0.3)
        assert 1 <= parts.taken * PART < 12_000_000  # what two sockets and we have room for
        go.set()
        return await calling

    with raw_server(serve) as url:
        assert caller.run(call(url)).body == b"ab"


def test_a_provider_that_takes_no_more_is_given_up(caller: Caller) -> None:
    done = threading.Event()
    caller.client = caller.run(remade(caller, first_byte_seconds=0.3))
    parts = Parts(b"a" * PART, repeat=1600)
    with raw_server(lambda link: wait(done)) as url:
        with pytest.raises(UpstreamError) as caught:
            caller.run(send(caller, url, parts))
        done.set()
    assert (caught.value.kind, caught.value.sent) == ("no_answer_in_time", True)


def test_the_time_that_the_caller_takes_is_not_the_providers(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"ab")
    caller.client = caller.run(remade(caller, first_byte_seconds=0.2))
    assert caller.run(send(caller, upstream.url, Parts(0.3, b"hel", 0.3, b"lo", 0.3), 5)).body == b"ab"


def test_the_answer_is_waited_for_from_its_end_on(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = [threading.Event()]
    caller.client = caller.run(remade(caller, first_byte_seconds=0.3))
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="no_answer_in_time"):
        caller.run(send(caller, upstream.url, Parts(b"hel", 0.4, b"lo")))
    assert time.monotonic() - began > 0.65
    assert upstream.last.gone.wait(10)


# Early ends


@pytest.mark.parametrize("linger", [0.0, 0.3], ids=["torn down", "closed later"])
@pytest.mark.parametrize("size", [3200 * PART, None], ids=["of known size", "in chunks"])
def test_an_answer_before_its_end_is_the_answer_and_the_rest_is_not_sent(
    caller: Caller, size: int | None, linger: float
) -> None:
    if caller.kind == "aiohttp" and not linger:
        pytest.skip("aiohttp loses an answer to the reset that follows it")
    parts = Parts(b"a" * PART, 0.001, repeat=3200)

    def refuse(link: socket.socket) -> None:
        link.recv(1000)
        link.sendall(whole(413, b"too large", ("connection", "close"))[0])
        time.sleep(linger)

    with raw_server(refuse) as url:
        got = caller.run(send(caller, url, parts, size))
    assert (got.status, got.body) == (413, b"too large")
    caller.idle(0.05)
    assert parts.taken < 1600
    assert parts.ended


@pytest.mark.parametrize("pause", [0.0, 60.0], ids=["between parts", "waiting for one"])
def test_a_connection_on_which_it_did_not_end_is_not_used_again(caller: Caller, pause: float) -> None:
    rest_of_it = b""

    def answer_early(link: socket.socket) -> None:
        nonlocal rest_of_it
        read_to(link, b"\r\n\r\n")
        link.sendall(whole(400, b"early")[0])
        rest_of_it = read_to(link, b"0\r\n\r\n")

    with raw_server(answer_early) as url:
        began = time.monotonic()
        got = caller.run(send(caller, url, Parts(b"a" * 100, 0.05, b"b" * 100, pause, b"c" * 100, 0.2, b"d" * 100)))
        assert (got.status, got.body) == (400, b"early")
        assert time.monotonic() - began < 30
        caller.idle()
        if isinstance(caller.client, LeanClient):
            assert not caller.client.connections
    assert b"0\r\n\r\n" not in rest_of_it


class Trouble(Exception):
    """What parts of a body may raise."""


@pytest.mark.parametrize("size", [1000, None], ids=["of known size", "in chunks"])
@pytest.mark.parametrize("kind", [Trouble, TimeoutError, OSError, UpstreamError])
def test_what_its_parts_raise_passes_through_and_cuts_the_provider_off(
    caller: Caller, size: int | None, kind: type[Exception]
) -> None:
    trouble = UpstreamError("broken_off", sent=True) if kind is UpstreamError else kind("here")
    read = b""

    def serve(link: socket.socket) -> None:
        nonlocal read
        while data := link.recv(PART):
            read += data

    with raw_server(serve) as url:
        with pytest.raises(kind) as caught:
            caller.run(send(caller, url, Parts(b"hello", 0.05, trouble), size))
        assert caught.value is trouble
        caller.idle()
    _, _, body = read.partition(b"\r\n\r\n")
    assert body in (b"hello", b"5\r\nhello\r\n")


@pytest.mark.parametrize(
    ("parts", "size"), [((b"hel", b"lo"), 9), ((b"hello", b"lo"), 5), ((b"hello, ", b"Alice"), 9), ((b"hel",), 0)]
)
def test_a_body_of_another_length_than_declared_is_an_error_and_leaves_no_connection(
    caller: Caller, upstream: Upstream, parts: Iterable[bytes], size: int
) -> None:
    upstream.answer = whole(200, b"first")
    with pytest.raises(UpstreamError, match="bad_body") as caught:
        caller.run(send(caller, upstream.url, Parts(*parts), size))
    assert caught.value.sent
    caller.idle()
    assert not any(seen.body for seen in upstream.seen)
    upstream.answer = whole(200, b"next")
    assert caller.get(upstream.url).body == b"next"


def test_a_provider_that_breaks_off_meanwhile_is_an_error(caller: Caller) -> None:
    parts = Parts(b"a" * PART, 0.01, repeat=1600)
    with raw_server(lambda link: wait_for_bytes(link)) as url:
        with pytest.raises(UpstreamError) as caught:
            caller.run(send(caller, url, parts))
        assert parts.taken < 1600
    assert (caught.value.kind, caught.value.sent) == ("no_answer", True)


def wait_for_bytes(link: socket.socket) -> None:
    link.recv(1000)


def test_no_part_of_the_body_is_read_if_the_provider_cannot_be_reached(caller: Caller) -> None:
    parts = Parts(b"hello")
    with pytest.raises(UpstreamError) as caught:
        caller.run(send(caller, "http://127.0.0.1:1", parts))
    assert (caught.value.kind, caught.value.sent, parts.taken) == ("not_connected", False, 0)


@pytest.mark.parametrize("pause", [0.0, 5.0], ids=["without room", "waiting for a part"])
def test_a_cancelled_call_lets_go_of_its_parts_and_its_socket(caller: Caller, pause: float) -> None:
    done = threading.Event()
    parts = Parts(b"a" * PART, pause, repeat=1600)

    async def cancel(url: str) -> None:
        before = sockets()
        task = asyncio.ensure_future(send(caller, url, parts))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        assert parts.ended
        done.set()
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not sockets() - before:
                return
        raise AssertionError("a socket is left")

    with raw_server(lambda link: wait(done)) as url:
        caller.run(cancel(url))
