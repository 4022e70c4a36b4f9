"""No other call waits while a hostile body is read."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from messages_api.json_text import byte_edits
from messages_api.process import long_bodies
from messages_api.process.taking_turns import Turns
from messages_api.request import minted, reading
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import whole
from tests.support.gateway import MODEL, ask, message, post, refused

# Bytes of each; a request may have 32 MB.
SIZE = int(os.environ.get("HOSTILE_BYTES", long_bodies.MEDIUM + 1))
COPIED = 32 << 20
# A copy of 32 MB takes 5 to 20 ms.
MOST_COPIES = 8

HEAD = f'{{"model":"{MODEL}","max_tokens":9,'
TURNS = '"messages":[{"role":"user","content":"x"}],'


def many(part: str, size: int, end: str = "") -> str:
    return ",".join([part] * (size // (len(part) + 1))) + end


def bodies(size: int) -> Iterator[tuple[str, str]]:
    """What an attacker might send."""
    turn = HEAD + '"messages":[{"role":"user","content":[%s]}]}'
    yield "a long name", HEAD + TURNS + '"fallbacks":["a"],"' + "a" * size + '":1}'
    yield "an escaped name", HEAD + TURNS + '"fallbacks":["a"],"' + r"\u0061" * (size // 6) + '":1}'
    yield "odd blocks", turn % many('{"type":"odd"}', size)
    yield "escapes", turn % ('{"type":"text","text":"' + r"\u0061" * (size // 6) + '"}')
    yield "quotes", turn % ('{"type":"text","text":"' + r"\"" * (size // 2) + '"}')
    yield "signatures of ours", turn % many('{"type":"text","text":"unsigned_"}', size)
    yield "tools", HEAD + TURNS + '"tools":[' + many('{"type":""}', size) + "]}"
    yield "numbers", HEAD + TURNS + '"x":[' + many('1.0,""', size) + "]}"
    yield "long numbers", HEAD + TURNS + '"x":[' + many("1" * 20, size) + "]}"
    yield "nested lists", HEAD + TURNS + '"x":[' + many("[" * 900 + "]" * 900, size) + "]}"
    members = ",".join(f'"k{number:07}":1' for number in reversed(range(size // 13)))
    yield "members out of order", turn % f'{{"type":"odd",{members}}}'
    yield "empty lists", turn % ('{"type":"odd","x":[' + many("[]", size) + "]}")
    yield "spaces", HEAD + " " * size + TURNS + '"x":1}'


async def handled(body: bytes) -> None:
    """What happens to a body on its way through."""
    with suppress(GatewayError):
        read = await long_bodies.run(reading.read, body, betas="", counting=False, signatures=True, opening=True)
        edits = await long_bodies.run(byte_edits.model, body, "another")
        if read.request.contents.minted:
            edits += await long_bodies.run(minted.cuts, body)
        byte_edits.apply(body, edits)


async def longest_pause(body: bytes) -> float:
    """CPU seconds that the thread of the loop takes at a time at most while a body is handled."""
    handling = asyncio.create_task(handled(body))
    longest, before = 0.0, time.thread_time()
    while not handling.done():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    await handling
    return longest


def copying() -> float:
    body = bytes(COPIED)
    before = time.thread_time()
    bytearray(body)
    return time.thread_time() - before


@pytest.mark.parametrize("size", [SIZE, 128 << 10, long_bodies.SHORT - 1000], ids=["long", "medium", "short"])
def test_no_body_holds_up_the_loop_for_longer_than_a_few_copies_take(size: int) -> None:
    try:
        for name, body in bodies(size):
            # What another process does to the machine meanwhile is nothing of ours.
            tries = (asyncio.run(longest_pause(body.encode())) / copying() for _ in range(3))
            assert any(copies < MOST_COPIES for copies in tries), name
    finally:
        asyncio.run(long_bodies.close())


def test_a_long_body_gets_the_answer_of_a_short_one(web, upstream, alice) -> None:
    text = "x" * (long_bodies.MEDIUM + 1)
    upstream.answer = whole(200, message())
    body = json.dumps(ask(text, fallbacks=[MODEL])).encode()
    assert post(web, alice.key, body).status_code == 200
    assert json.loads(upstream.last.body) == ask(text)
    assert "max_tokens" in refused(post(web, alice.key, ask(text, max_tokens=-1)), 400, "invalid_request_error")
    named = json.dumps(ask(fallbacks=[MODEL]) | {"a" * len(text): 1}).encode()
    assert "longer than 200" in refused(post(web, alice.key, named), 400, "invalid_request_error")


def test_a_reader_that_dies_is_replaced() -> None:
    body = json.dumps(ask("x" * long_bodies.MEDIUM)).encode()

    async def read() -> int:
        return len(await long_bodies.run(byte_edits.model, body, "another"))

    try:
        assert asyncio.run(read()) == 1
        process = long_bodies._readers[0].process
        assert process is not None
        process.kill()
        process.wait()
        assert asyncio.run(read()) == 1
    finally:
        asyncio.run(long_bodies.close())


def test_a_body_that_takes_too_long_is_a_400_that_says_so_and_its_reader_is_replaced(monkeypatch) -> None:
    body = json.dumps(ask("x" * long_bodies.MEDIUM)).encode()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(long_bodies, "SECONDS", 0.01)  # Python alone takes longer to start
            with pytest.raises(GatewayError, match="seconds to read") as caught:
                asyncio.run(long_bodies.run(byte_edits.model, body, "another"))
            assert (caught.value.status_code, caught.value.kind) == (400, "invalid_request_error")
            assert long_bodies._readers[0].process is None
        assert len(asyncio.run(long_bodies.run(byte_edits.model, body, "another"))) == 1
    finally:
        asyncio.run(long_bodies.close())


class Slow(long_bodies.BodyReader):
    """A reader that is done with a body when it may be, and says which it had in which order."""

    def __init__(self, begun: list[bytes], may: threading.Semaphore) -> None:
        super().__init__()
        self.begun, self.may = begun, may

    def ask(self, function: object, body: bytes, args: object, kwargs: object) -> tuple[bool, bytes]:
        self.begun.append(body[:2])
        self.may.acquire()
        return True, body[:2]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_very_long_bodies_of_one_key_stop_neither_shorter_ones_nor_the_long_one_of_another(monkeypatch) -> None:
    begun, may = list[bytes](), [threading.Semaphore(0), threading.Semaphore(0)]
    monkeypatch.setattr(long_bodies, "_readers", [Slow(begun, each) for each in may])
    monkeypatch.setattr(long_bodies, "_turns", Turns(long_bodies.SIZES))
    long, medium = 5 << 20, 2 << 20

    def read(key: str, number: int, size: int) -> asyncio.Task[list[byte_edits.Edit]]:
        long_bodies.caller.set(key)
        return asyncio.create_task(long_bodies.run(byte_edits.model, f"{key}{number}".encode().ljust(size), ""))

    attack = [read("a", number, long) for number in range(6)]
    await until(lambda: begun == [b"a0"])
    honest = [read("b", 0, long), read("c", 0, medium), read("c", 1, medium)]
    may[0].release(2)
    await asyncio.gather(*honest[1:])
    assert begun == [b"a0", b"c0", b"c1"]
    # One that is given up keeps its reader, and its key's turn, until it is read.
    attack[0].cancel()
    attack[1].cancel()
    short = read("a", 7, medium)
    await asyncio.wait(attack[:2])
    assert len(begun) == 3
    may[1].release(1)
    await until(lambda: len(begun) == 5)
    assert set(begun[3:]) == {b"b0", b"a7"}
    may[0].release(10)
    may[1].release(10)
    await asyncio.gather(*attack[2:], honest[0], short)
    assert begun[5:] == [b"a2", b"a3", b"a4", b"a5"]
