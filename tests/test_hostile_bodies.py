"""Whatever a body is made of, no other call waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from messages_api import long_bodies, minted, reading, splice
from messages_api.errors import GatewayError
from tests.gateway import MODEL, ask, message, post, refused
from tests.upstream import whole

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
        edits = await long_bodies.run(splice.model, body, "another")
        if read.request.contents.minted:
            edits += await long_bodies.run(minted.cuts, body)
        splice.apply(body, edits)


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
        return len(await long_bodies.run(splice.model, body, "another"))

    try:
        assert asyncio.run(read()) == 1
        process = long_bodies._reader.process
        assert process is not None
        process.kill()
        process.wait()
        assert asyncio.run(read()) == 1
    finally:
        asyncio.run(long_bodies.close())
