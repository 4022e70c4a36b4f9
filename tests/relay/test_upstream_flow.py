"""Both HTTP clients where one side doesn't read, doesn't write, or leaves in the middle."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from messages_api.upstream import lean_connection
from messages_api.upstream.lean import LeanClient
from tests.support.client_kinds import CHUNKED, Caller, fetch, in_turn, raw_server, remade, wait
from tests.support.client_kinds import caller as caller
from tests.support.client_kinds import lean as lean
from tests.support.fake_provider import LAST_CHUNK, Step, Upstream, chunk, whole


def test_a_half_read_answer_that_is_closed_cuts_the_provider_off(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = in_turn([CHUNKED + chunk(b"a"), threading.Event()], whole(200, b"next"))

    async def begin() -> None:
        answer = await caller.client.send("POST", upstream.url, [], b"")
        assert await answer.read() == b"a"
        answer.close()
        answer.close()
        await asyncio.sleep(0)

    caller.run(begin())
    assert upstream.last.gone.wait(30)
    assert caller.get(upstream.url).body == b"next"


def test_a_large_unread_answer_does_not_block_the_next(caller: Caller, upstream: Upstream) -> None:
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


# The task that asked is cancelled


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


def test_a_silent_provider_is_given_up(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = [threading.Event()]
    caller.client = caller.run(remade(caller, first_byte_seconds=0.2))
    error = caller.fail(upstream.url)
    assert (error.kind, error.sent) == ("no_answer_in_time", True)
    assert upstream.last.gone.wait(30)


def test_a_provider_that_never_reads_is_given_up(caller: Caller) -> None:
    done = threading.Event()
    caller.client = caller.run(remade(caller, first_byte_seconds=0.3))
    with raw_server(lambda link: wait(done)) as url:
        error = caller.fail(url, b"a" * 8_000_000)
        assert (error.kind, error.sent) == ("no_answer_in_time", True)
        done.set()


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
        done.wait(30)

    with raw_server(answer_early) as url:
        assert lean.get(url, b"a" * 8_000_000).body == b"early"
        assert isinstance(lean.client, LeanClient)
        assert not lean.client.kept
        done.set()
