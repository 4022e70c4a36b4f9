"""Answers without measure: each provider's are read up to a bound, whichever kind they are, and so is an event of a
stream; what is compressed is unpacked a piece at a time, between which others have their turn."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Awaitable, Iterator
from typing import Any
from unittest import mock

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import provider_keys
from messages_api.answer.events import StreamMeter
from messages_api.providers.openai import events as openai_events
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from messages_api.relay import attempts
from messages_api.relay.attempt import Failure
from messages_api.upstream.bounded import MOST_OF_A_TOKEN, TokenResponse, bounding
from messages_api.upstream.client import (
    MOST_BYTES,
    PART,
    PIECE,
    Headers,
    Inflater,
    Unpacked,
    UpstreamError,
    plain,
    read_all,
)
from tests.support.bedrock_provider import frames
from tests.support.clouds import issue_for
from tests.support.fake_provider import LAST_CHUNK, Step, Upstream, chunk, head
from tests.support.fake_provider import whole as answer_in_one
from tests.support.gateway import Caller, Web, ask, event, events, issue, post, refused, row, rows

MIB = 1 << 20
AN_API_KEY = "an-api-key-of-bedrocks"


class Parts:
    """An answer that has these parts, and counts how many were read."""

    status = 200

    def __init__(self, parts: Iterator[bytes], headers: Headers | None = None) -> None:
        self.parts = parts
        self.headers = headers or []
        self.taken = 0

    async def read(self) -> bytes:
        part = next(self.parts, b"")
        self.taken += len(part)
        return part

    def close(self) -> None:
        pass


def endless(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


def run(work: Awaitable[Any]) -> Any:
    async def run_it() -> Any:
        return await work

    return asyncio.run(run_it())


def test_what_is_gathered_ends_at_its_bound() -> None:
    answer = Parts(endless(b"x" * 1000))
    with pytest.raises(UpstreamError, match="too_long") as caught:
        run(read_all(answer.read, 10_000))
    assert caught.value.sent
    assert answer.taken == 11_000
    assert run(read_all(Parts(endless(b"x" * 1000)).read, 1500, cut=True)) == b"x" * 1500
    assert run(read_all(Parts(iter([b"ab", b"c"])).read, 3)) == b"abc"


# What is compressed

BOMB = gzip.compress(bytes(100 * MIB), 9)


@given(st.binary(max_size=2000), st.integers(1, 50), st.integers(1, 3))
def test_the_plain_bytes_are_the_same_at_any_cuts(data: bytes, step: int, members: int) -> None:
    for packed, wanted in ((gzip.compress(data) * members, data * members), (zlib.compress(data), data)):
        inflater = Inflater()
        parts = [packed[at : at + step] for at in range(0, len(packed), step)]
        assert b"".join(piece for part in parts for piece in inflater.feed(part)) == wanted
        assert inflater.complete


def test_a_few_bytes_that_become_gigabytes_are_unpacked_piece_by_piece_and_others_have_their_turn_between() -> None:
    turns = 0

    async def read() -> None:
        nonlocal turns

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(others())
        answer = plain(Parts(iter([BOMB]), [(b"content-encoding", b"gzip")]))
        pieces = 0
        while piece := await answer.read():
            assert len(piece) <= PIECE
            pieces += 1
        task.cancel()
        assert turns >= pieces >= 100 * MIB / PIECE

    tracemalloc.start()
    try:
        asyncio.run(read())
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("event", [b"\n\n", b"data:{}\n\n", b"\r\r"])
async def test_events_of_a_few_bytes_that_come_at_once_leave_others_their_turn(event: bytes) -> None:
    turns = longest = 0
    sent, read = event * (MIB // len(event)), bytearray()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    answer, meter = plain(Parts(iter([sent]))), StreamMeter()
    while part := await answer.read():
        meter.feed(part)
        read += part
        longest = max(longest, len(part))
    task.cancel()
    assert read == sent
    assert longest <= PART
    assert turns >= MIB / PART - 1


def test_members_with_nothing_in_them_are_not_copied_with_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    given, inflating = 0, zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.inflate = inflating(wbits)

        def decompress(self, packed: bytes, most: int) -> bytes:
            nonlocal given
            given += len(packed)
            return self.inflate.decompress(packed, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inflate, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    member = gzip.compress(b"")
    packed = member * (MIB // len(member))
    assert not any(Inflater().feed(packed))
    assert given < len(packed) * PART / len(member)


def test_members_with_nothing_in_them_leave_others_their_turn() -> None:
    async def read() -> int:
        turns = 0
        answer = Unpacked(Parts(iter([gzip.compress(b"") * 500])))
        task = asyncio.ensure_future(answer.read())
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert task.result() == b""
        return turns

    assert asyncio.run(read()) > 400


# Over sockets


def bomb(size: int, status: int = 200, kind: str = "application/json") -> list[bytes]:
    """A compressed answer of zeros, of this many bytes when unpacked."""
    packed = gzip.compress(bytes(size), 1)
    return answer_in_one(status, packed, ("content-encoding", "gzip"), ("content-type", kind))


def long(size: int, begin: bytes = b"", kind: str = "application/json", status: int = 200) -> list[Step]:
    """A chunked answer with this many spaces after its beginning."""
    part = chunk(b" " * MIB)
    named = [(b"content-type", kind.encode()), (b"transfer-encoding", b"chunked")]
    return [head(status, named), chunk(begin), *[part] * (size // MIB), LAST_CHUNK]


def peak(web: Web) -> int:
    """Bytes of memory that the web process has had at most."""
    [process] = web.processes
    with open(f"/proc/{process.pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_json_without_measure_is_a_502_at_any_provider_and_is_not_kept(
    start_web: Any, served: None, upstream: Upstream
) -> None:
    web = start_web(retry_attempts=1)
    addresses: dict[str, dict[str, Any]] = {"anthropic": {}, "azure": {}, "bedrock": {"region": "us-east-1"}}
    callers = []
    for name, terms in addresses.items():
        key = provider_keys.add_provider_key(
            name=name, provider=name, base_url=upstream.url, secret=AN_API_KEY, **terms
        )
        callers.append(issue(None, name, provider_keys=[(key, 1)]))
    post(web, callers[0].key)
    before = peak(web)
    for caller in callers:
        for answer in (long(MOST_BYTES + 8 * MIB), bomb(MOST_BYTES + 8 * MIB)):
            upstream.answer = answer
            refused(post(web, caller.key), 502, "api_error")
    assert peak(web) - before < 4 * MOST_BYTES
    entries = rows(1 + 2 * len(callers))[1:]
    assert {(entry.status, entry.error_type, entry.estimated) for entry in entries} == {("failed", "too_long", True)}


def test_an_error_without_measure_is_passed_on_by_its_beginning(
    web_once: Web, upstream: Upstream, alice: Caller
) -> None:
    upstream.answer = long(8 * MIB, b'{"type":"error"', status=400)
    answer = post(web_once, alice.key)
    assert answer.status_code == 400
    assert len(answer.content) == attempts.LONGEST_ERROR
    assert row().status == "refused_by_provider"


def test_an_event_without_an_end_ends_in_an_error_at_a_boundary_and_what_came_before_stays(
    web: Web, upstream: Upstream, alice: Caller
) -> None:
    before = peak(web)
    first = b"".join(events("Hello")[:3])
    upstream.answer = long(2 * MOST_BYTES, first + b"event: content_block_delta\ndata: ", "text/event-stream")
    content = post(web, alice.key, ask(stream=True)).content
    assert content.startswith(first)
    assert MOST_BYTES < len(content) < MOST_BYTES + 4 * MIB
    *_, fragment, last, rest = content.rsplit(b"\n\n", 2)
    assert fragment.endswith(b"\nevent: ping")  # which clients skip
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.partition(b"data: ")[2])["error"]["type"] == "api_error"
    assert rest == b""
    assert peak(web) - before < 4 * MOST_BYTES
    entry = row()
    assert (entry.status, entry.error_type, entry.estimated) == ("failed", "too_long", True)


def test_a_stream_that_never_begins_is_given_up_and_begun_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_BYTES", 10_000)
    answer = Parts(endless(event("ping")))
    call = mock.Mock()
    call.timeouts.between_bytes = None

    async def read() -> object:
        call.loop = asyncio.get_running_loop()
        return await attempts.read_beginning(call, answer, 60)

    outcome = run(read())
    assert isinstance(outcome, Failure)
    assert (outcome.error_type, outcome.hopeless) == ("too_long", True)
    assert answer.taken < 11_000


def test_a_meter_waits_for_the_end_of_an_event_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messages_api.answer.events.MOST_BYTES", 10_000)
    meter = StreamMeter()
    for _ in range(100):
        meter.feed(event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 9000}))
    meter.feed(b"data: ")
    meter.feed(b"x" * 9900)
    with pytest.raises(UpstreamError, match="too_long"):
        meter.feed(b"x" * 100)


def test_a_frame_of_amazons_without_measure_breaks_off_before_it_is_read(
    web_once: Web, upstream: Upstream, served: None
) -> None:
    caller = issue_for("bedrock", AN_API_KEY, upstream.url, region="us-east-1")
    frame = frames(events("Hello")[:1])
    huge = (1 << 30).to_bytes(4, "big")
    prelude = huge + bytes(4)
    prelude += zlib.crc32(prelude).to_bytes(4, "big")
    upstream.answer = [
        *long(4 * MIB, frame + prelude, "application/vnd.amazon.eventstream"),
    ]
    content = post(web_once, caller.key, ask(stream=True)).content
    assert content.count(b"event: ") == 2
    assert content.rpartition(b"event: ")[2].startswith(b"error\n")
    assert row().status == "failed"


def test_what_is_kept_of_a_translated_stream_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_events, "MOST_BYTES", 1 << 20)

    def fed(*deltas: dict[str, Any]) -> None:
        translated = EventTranslation(Expected(model="gpt", stream=True))
        for delta in deltas:
            line = json.dumps({"choices": [{"index": 0, "delta": delta}]})
            translated.feed(f"data: {line}\n\n".encode())
            if translated.broken:
                raise ValueError("too much waits")

    def tool(index: int, arguments: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": arguments}}]}

    for hostile in (
        [tool(0, '{"a":"'), *[tool(1, '{"a":"' + "x" * 10_000)], *[tool(1, "x" * 10_000)] * 200],
        [tool(0, '{"a":"'), *[{"content": "x" * 10_000}] * 200],
        [tool(number, "{}") for number in range(100)],
        [tool(0, "x" * 10_000)] * 200,
    ):
        with pytest.raises(ValueError, match="too much waits"):
            fed(*hostile)
    # What goes out as it comes is not kept, and what is said again counts once.
    fed(*[{"content": "x" * 10_000}] * 200)
    fed(*(tool(0, '{"a":"' + "x" * number) for number in range(0, 10_000, 10)))


# What is asked beside calls


def over_httpx(body: bytes, most: int | None, *headers: tuple[str, str]) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=list(headers), stream=httpx.ByteStream(body))

    return httpx.Client(transport=httpx.MockTransport(answer), event_hooks=bounding(most))


def test_a_token_without_measure_is_none() -> None:
    packed = ("content-encoding", "gzip")
    with over_httpx(gzip.compress(b"hello"), 100, packed) as http:
        assert http.get("http://token.test").content == b"hello"
    for body, headers in ((b"x" * (MOST_OF_A_TOKEN + 1), []), (BOMB, [packed]), (b"no gzip", [packed])):
        with over_httpx(body, MOST_OF_A_TOKEN, *headers) as http, pytest.raises(httpx.HTTPError):
            http.get("http://token.test")


def test_answers_to_tasks_are_unpacked_piece_by_piece() -> None:
    with (
        over_httpx(BOMB, None, ("content-encoding", "gzip")) as http,
        http.stream("GET", "http://results.test") as answer,
    ):
        sizes = [len(part) for part in answer.iter_bytes()]
    assert sum(sizes) == 100 * MIB
    assert max(sizes) <= PIECE


def test_a_token_over_aiohttp_has_the_same_bound(upstream: Upstream) -> None:
    async def read() -> bytes:
        async with (
            aiohttp.ClientSession(response_class=TokenResponse, auto_decompress=False) as session,
            session.get(upstream.url) as answer,
        ):
            return await answer.read()

    upstream.answer = answer_in_one(200, b"token")
    assert asyncio.run(read()) == b"token"
    for answer in (long(2 * MIB), bomb(100 * MIB)):
        upstream.answer = answer
        with pytest.raises(aiohttp.ClientError):
            asyncio.run(read())
