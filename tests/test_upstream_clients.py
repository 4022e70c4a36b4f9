"""Both HTTP clients against providers that misbehave, over real sockets, on the event loop that serves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from django.conf import settings

from keys import destinations
from messages_api import lean_client, lean_connection
from messages_api.aiohttp_client import AiohttpClient
from messages_api.lean_client import LeanClient
from messages_api.lean_connection import Connection
from messages_api.outbound import upstream_client
from messages_api.upstream import Answer, Headers, UpstreamClient, UpstreamError, plain
from tests.authority import Authority
from tests.upstream import LAST_CHUNK, End, Seen, Step, Upstream, chunk, pieces, whole

T = TypeVar("T")

FIRST_BYTE_SECONDS = 5.0
CONNECT_SECONDS = 1.0


@dataclass
class Got:
    """An answer, read to its end."""

    status: int
    headers: Headers
    body: bytes


class Caller:
    """A client, and the event loop that it lives on."""

    def __init__(self, kind: str, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.runner = runner
        self.client = runner.run(make(kind))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def get(self, url: str, body: bytes = b"{}", headers: Headers | None = None) -> Got:
        return self.run(fetch(self.client, url, body, headers))

    def fail(self, url: str, body: bytes = b"{}", headers: Headers | None = None) -> UpstreamError:
        """The error that the call ends with."""
        with pytest.raises(UpstreamError) as caught:
            self.get(url, body, headers)
        return caught.value

    def idle(self, seconds: float = 0.03) -> None:
        """Let the event loop hear what happens meanwhile."""
        self.run(asyncio.sleep(seconds))


async def make(kind: str, tls: ssl.SSLContext | None = None, **terms: Any) -> UpstreamClient:
    seconds = {"connect_seconds": CONNECT_SECONDS, "first_byte_seconds": FIRST_BYTE_SECONDS}
    given: dict[str, Any] = {**seconds, "destinations": destinations.current(), **terms}
    tls = tls or ssl.create_default_context()
    return AiohttpClient(tls=tls, proxy="", **given) if kind == "aiohttp" else LeanClient(tls=tls, **given)


async def fetch(client: UpstreamClient, url: str, body: bytes = b"{}", headers: Headers | None = None) -> Got:
    answer = await client.send("POST", url, headers or [], body)
    return await rest(answer)


async def rest(answer: Answer) -> Got:
    parts = []
    try:
        while part := await answer.read():
            parts.append(part)
    finally:
        answer.close()
    return Got(answer.status, answer.headers, b"".join(parts))


def calling(kind: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Caller]:
    with asyncio.Runner(loop_factory=loop) as runner:
        caller = Caller(kind, runner)
        yield caller
        runner.run(caller.client.close())
        runner.run(asyncio.sleep(0.01))


@pytest.fixture(params=["lean", "aiohttp"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Either client, on uvloop."""
    yield from calling(request.param, uvloop.new_event_loop)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def lean(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """The lean client, on either event loop."""
    yield from calling("lean", request.param)


def in_turn(*answers: Sequence[Step]) -> Callable[[Seen], Sequence[Step]]:
    """Each request gets the next of these answers."""
    left = iter(answers)
    return lambda _: next(left)


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := os.readlink(entry)).startswith("socket:"):
                found.add(target)
    return found


def lines(*given: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """The head of an answer, written as it is given."""
    return b"\r\n".join((status, *given)) + b"\r\n\r\n"


CHUNKED = lines(b"transfer-encoding: chunked")
LENGTH_5 = lines(b"content-length: 5")

# Answers that are whole, and their bodies.
GOOD: dict[str, tuple[list[Step], bytes]] = {
    "with its length": ([LENGTH_5, b"hello"], b"hello"),
    "in pieces of one byte": ([bytes([one]) for one in LENGTH_5 + b"hello"], b"hello"),
    "chunked, in pieces of one byte": (
        [bytes([one]) for one in CHUNKED + chunk(b"hel") + chunk(b"lo") + LAST_CHUNK],
        b"hello",
    ),
    "with an extension of a chunk": ([CHUNKED + b'5;name="value"\r\nhello\r\n' + LAST_CHUNK], b"hello"),
    "with a trailer": ([CHUNKED + chunk(b"hello") + b"0\r\nx-sum: 1\r\n\r\n"], b"hello"),
    "up to the end of the connection": ([lines(b"connection: close"), b"hel", 0.01, b"lo", End.CLOSE], b"hello"),
    "of HTTP/1.0": ([lines(status=b"HTTP/1.0 200 OK") + b"hello", End.CLOSE], b"hello"),
    "after 100": ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, LENGTH_5 + b"hello"], b"hello"),
    "after 103": (
        [lines(b"link: </x>", b"content-length: 7", status=b"HTTP/1.1 103 Early Hints") + LENGTH_5 + b"hello"],
        b"hello",
    ),
    "empty": ([lines(b"content-length: 0")], b""),
    "without a reason": ([lines(b"content-length: 5", status=b"HTTP/1.1 200 ") + b"hello"], b"hello"),
    "that offers another protocol": (
        [lines(b"connection: upgrade", b"upgrade: h2c", b"content-length: 5") + b"hello"],
        b"hello",
    ),
}

# Answers that aren't HTTP, or end too soon; none of them may pass for whole.
BAD: dict[str, list[Step]] = {
    "a bad status line": [b"HELLO\r\n\r\n", End.CLOSE],
    "a status that is no number": [lines(b"content-length: 0", status=b"HTTP/1.1 OK OK"), End.CLOSE],
    "another protocol": [lines(b"connection: upgrade", b"upgrade: websocket", status=b"HTTP/1.1 101 Switching"), 1.0],
    "a header without a colon": [lines(b"content-length 5") + b"hello", 1.0],
    "a header's name with a space": [lines(b"content-length : 5") + b"hello", 1.0],
    "a header with a null byte": [lines(b"x-a: a\0b", b"content-length: 5") + b"hello", 1.0],
    "too short": [lines(b"content-length: 9") + b"hello", End.CLOSE],
    "a length below nothing": [lines(b"content-length: -5") + b"hello", 1.0],
    "a length of a word": [lines(b"content-length: five") + b"hello", 1.0],
    "two lengths": [lines(b"content-length: 5", b"content-length: 6") + b"hello!", 1.0],
    "a length and chunks": [
        lines(b"content-length: 5", b"transfer-encoding: chunked") + chunk(b"hello") + LAST_CHUNK,
        1.0,
    ],
    "a chunk's size of letters": [CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n", 1.0],
    "a chunk's size below nothing": [CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 1.0],
    "an endless chunk's size": [CHUNKED + b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n", 1.0],
    "a chunk longer than its size": [CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", 1.0],
    "chunks without an end": [CHUNKED + chunk(b"hello"), End.CLOSE],
    "a length, torn down": [lines(b"content-length: 9") + b"hello", End.RESET],
    "no length, torn down": [lines(b"connection: close") + b"hello", End.RESET],
    "no answer": [End.CLOSE],
    "no answer, torn down": [End.RESET],
    "half a head": [b"HTTP/1.1 200 OK\r\ncontent-", End.CLOSE],
}

# What aiohttp takes in spite of all.
AIOHTTP_TAKES = {"another protocol", "a header's name with a space", "no length, torn down"}


@pytest.mark.parametrize("name", GOOD)
def test_it_reads_an_answer(caller: Caller, upstream: Upstream, name: str) -> None:
    upstream.answer, body = GOOD[name]
    got = caller.get(upstream.url)
    assert (got.status, got.body) == (200, body)


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_is_none_is_an_error_and_may_have_been_billed(
    caller: Caller, upstream: Upstream, name: str
) -> None:
    if caller.kind == "aiohttp" and name in AIOHTTP_TAKES:
        pytest.skip("aiohttp leaves this to its caller")
    upstream.answer = BAD[name]
    error = caller.fail(upstream.url)
    assert error.sent
    assert error.kind != "no_answer_in_time"
    upstream.answer = whole(200, b"next")
    assert caller.get(upstream.url).body == b"next"


@pytest.mark.parametrize(
    "answer",
    [
        [lines(b"x-long: " + b"a" * 300_000, b"content-length: 0")],
        [b"HTTP/1.1 200 OK\r\nx-endless: ", *[b"a" * 10_000] * 60],
        [lines(*[b"x-%d: %s" % (n, b"a" * 1000) for n in range(300)], b"content-length: 0")],
        [lines(*[b"x-%d: a" % n for n in range(10_000)], b"content-length: 0")],
    ],
    ids=["one line", "no end", "many long lines", "many lines"],
)
def test_a_head_without_measure_is_refused(caller: Caller, upstream: Upstream, answer: list[Step]) -> None:
    upstream.answer = answer
    assert caller.fail(upstream.url).sent


@pytest.mark.parametrize(
    "steps",
    [
        [CHUNKED + chunk(b"hello") + b"0\r\n", *[b"x-a: " + b"a" * 1000 + b"\r\n"] * 400],
        [CHUNKED + chunk(b"hello") + b"0\r\nx-endless: ", *[b"a" * 10_000] * 60],
        [CHUNKED + chunk(b"hello") + b"5;", *[b"a" * 10_000] * 60],
        [lines(b"x-early: hint", status=b"HTTP/1.1 103 Early") * 40_000],
        [b"HTTP/1.1 200 ", *[b"a" * 10_000] * 60],
    ],
    ids=["trailers", "a trailer", "an extension", "hints", "a reason"],
)
def test_what_never_ends_is_cut_off(lean: Caller, upstream: Upstream, steps: list[Step]) -> None:
    upstream.answer = [*steps, 5.0]
    assert lean.fail(upstream.url).kind == "bad_http"


def test_a_trailer_is_no_header(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = GOOD["with a trailer"][0]
    assert caller.get(upstream.url).headers == [(b"transfer-encoding", b"chunked")]


def test_headers_of_a_hint_are_not_the_answers(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = GOOD["after 103"][0]
    assert caller.get(upstream.url).headers == [(b"content-length", b"5")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(caller: Caller, upstream: Upstream, status: int) -> None:
    upstream.answer = in_turn([lines(b"x-a: b", status=b"HTTP/1.1 %d Nothing" % status)], whole(200, b"next"))
    before = upstream.connections
    got = caller.get(upstream.url)
    assert (got.status, got.body) == (status, b"")
    assert caller.get(upstream.url).body == b"next"
    assert upstream.connections == before + (1 if caller.kind == "lean" else 2)  # aiohttp keeps none


# Bytes that nobody asked for


class Reached(threading.Event):
    """A step that is set when the provider comes to it, and holds nothing up."""

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
    """Who was about to wake up must not find the connection with somebody else's answer on it."""
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
        stale = await asyncio.wait_for(reader, 2)
        last.set()
        return stale, (await following).body

    # The test takes the bytes from under the event loop, so that all of this happens in one of its turns.
    assert lean.run(read_both()) == (b"lo", b"next")


# Connections


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
        pytest.skip("aiohttp hears of it only when its event loop runs")
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


def mine(before: set[str]) -> set[str]:
    """Sockets since then, but for those of the provider, which lives in this process too, and closes when we do."""
    deadline = time.monotonic() + 2
    while (new := sockets() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return new


def test_a_half_read_answer_that_is_closed_cuts_the_provider_off(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = in_turn([CHUNKED + chunk(b"a"), threading.Event()], whole(200, b"next"))

    async def begin() -> None:
        answer = await caller.client.send("POST", upstream.url, [], b"")
        assert await answer.read() == b"a"
        answer.close()
        answer.close()
        await asyncio.sleep(0)

    caller.run(begin())
    assert upstream.last.gone.wait(0.2)
    assert caller.get(upstream.url).body == b"next"


def test_a_large_answer_that_nobody_reads_does_not_block_the_next(caller: Caller, upstream: Upstream) -> None:
    # Its last byte is the one too many, so that reading stops at the answer's very end.
    body = b"a" * (lean_connection.HIGH_WATER + 1)
    upstream.answer = in_turn(whole(200, body), whole(200, b"next"))

    async def begin() -> None:
        answer = await caller.client.send("POST", upstream.url, [], b"")
        await asyncio.sleep(0.1)
        answer.close()

    caller.run(begin())
    assert caller.get(upstream.url).body == b"next"


def test_a_slow_reader_holds_the_provider_back(caller: Caller, upstream: Upstream) -> None:
    part, count = chunk(b"a" * 65_536), 3_200
    written = 0

    def stream() -> Iterator[Step]:
        nonlocal written
        yield CHUNKED
        for _ in range(count):
            yield part
            written += 65_536
        yield LAST_CHUNK

    upstream.answer = lambda _: stream()  # type: ignore[assignment, return-value]

    async def read_late() -> int:
        answer = await caller.client.send("POST", upstream.url, [], b"")
        await asyncio.sleep(0.3)
        assert written < 20_000_000  # what two sockets, the provider and we have room for
        size = 0
        while read := await answer.read():
            size += len(read)
        answer.close()
        return size

    assert caller.run(read_late()) == count * 65_536


# Whoever asked is gone


@pytest.mark.parametrize(
    "steps", [[60.0], [CHUNKED, 60.0], [CHUNKED + chunk(b"a"), 60.0]], ids=["head", "body", "rest"]
)
def test_a_cancelled_call_closes_its_socket_at_once(caller: Caller, upstream: Upstream, steps: list[Step]) -> None:
    upstream.answer = steps

    async def cancel() -> float:
        task = asyncio.ensure_future(fetch(caller.client, upstream.url))
        while not upstream.seen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return began

    began = caller.run(cancel())
    assert upstream.last.gone.wait(30)
    assert upstream.last.gone_at is not None
    assert upstream.last.gone_at - began < 20


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
def test_nothing_was_sent_to_whom_nobody_reaches(caller: Caller, url: str) -> None:
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
def test_a_url_that_is_none_is_an_error_and_nothing_was_sent(lean: Caller, url: str) -> None:
    error = lean.fail(url)
    assert (error.kind, error.sent) == ("not_connected", False)


def test_a_silent_provider_is_given_up(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = [threading.Event()]
    caller.client = caller.run(remade(caller, first_byte_seconds=0.2))
    error = caller.fail(upstream.url)
    assert (error.kind, error.sent) == ("no_answer_in_time", True)
    assert upstream.last.gone.wait(0.2)


async def remade(caller: Caller, tls: ssl.SSLContext | None = None, **terms: Any) -> UpstreamClient:
    await caller.client.close()
    return await make(caller.kind, tls, **terms)


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that does with its one connection what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                serve(link)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()


def test_a_provider_that_never_reads_is_given_up(caller: Caller) -> None:
    done = threading.Event()
    caller.client = caller.run(remade(caller, first_byte_seconds=0.3))
    with raw_server(lambda link: wait(done)) as url:
        error = caller.fail(url, b"a" * 8_000_000)
        assert (error.kind, error.sent) == ("no_answer_in_time", True)
        done.set()


def wait(event: threading.Event) -> None:
    event.wait(5)


@pytest.mark.parametrize("linger", [0.0, 0.2], ids=["torn down", "closed later"])
def test_an_answer_before_the_body_was_read_arrives(lean: Caller, linger: float) -> None:
    def refuse(link: socket.socket) -> None:
        link.recv(1000)
        link.sendall(whole(413, b"too large", ("connection", "close"))[0])
        time.sleep(linger)

    with raw_server(refuse) as url:
        got = lean.get(url, b"a" * 8_000_000)
        assert (got.status, got.body) == (413, b"too large")


def test_a_connection_whose_request_was_not_read_to_the_end_is_not_used_again(lean: Caller) -> None:
    done = threading.Event()

    def answer_early(link: socket.socket) -> None:
        link.recv(1000)
        link.sendall(whole(200, b"early")[0])
        done.wait(5)

    with raw_server(answer_early) as url:
        assert lean.get(url, b"a" * 8_000_000).body == b"early"
        assert isinstance(lean.client, LeanClient)
        assert not lean.client.kept
        done.set()


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
        pytest.skip("aiohttp drops an empty query; nobody misses it")
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


# Compressed answers


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_a_compressed_answer_of_two_members_is_unpacked(caller: Caller, upstream: Upstream, encoding: str) -> None:
    packed = gzip.compress(b"hello, ") + gzip.compress(b"Alice")
    upstream.answer = pieces(200, [bytes([one]) for one in packed], ("content-encoding", encoding))
    assert caller.run(unpack(caller.client, upstream.url)) == b"hello, Alice"


@pytest.mark.parametrize("cut", [1, 9, -1], ids=["head", "body", "sum"])
def test_a_compressed_answer_that_is_cut_off_is_an_error(caller: Caller, upstream: Upstream, cut: int) -> None:
    upstream.answer = whole(200, gzip.compress(b"hello" * 100)[:cut], ("content-encoding", "gzip"))
    with pytest.raises(UpstreamError, match="broken_off"):
        caller.run(unpack(caller.client, upstream.url))


def test_a_compressed_answer_that_is_none_is_an_error(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"hello", ("content-encoding", "gzip"))
    with pytest.raises(UpstreamError, match="bad_compression"):
        caller.run(unpack(caller.client, upstream.url))


async def unpack(client: UpstreamClient, url: str) -> bytes:
    answer = plain(await client.send("POST", url, [], b""))
    assert not [name for name, _ in answer.headers if name == b"content-encoding"]
    return (await rest(answer)).body


# TLS


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
