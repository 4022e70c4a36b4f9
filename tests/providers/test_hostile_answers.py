"""No other call waits while a hostile answer is read, and what is billed of it is still read."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from messages_api.answer.account_states import MOST_STATES, State
from messages_api.answer.batch_results import ID_LENGTH, SPARE, KnownBatch, ResultsMeter
from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import JsonMeter
from messages_api.json_text import outline
from messages_api.providers import cloud_errors
from messages_api.providers.openai import completion, faults
from messages_api.providers.openai.answer import message
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from messages_api.request.carried import MOST_FILES
from messages_api.stored.batch_rows import PORTION
from usage import pricing

SIZE = 15 << 20
COPIED = 32 << 20
# A copy of 32 MB takes 5 to 20 ms, each pass over an answer two; its objects would take 50 and more.
MOST_COPIES = 25
USAGE = {"input_tokens": 7, "output_tokens": 5}
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "hm", "signature": "a signature"},
    {"type": "tool_use", "id": "toolu_1", "name": "count", "input": {"n": 1}},
    {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {"type": "bash_code_execution_result", "content": [{"type": "output", "file_id": "file_1"}]},
    },
    {"type": "text", "text": "one, two, " * 20_000},
]


def many(part: str, size: int = SIZE) -> str:
    return "[" + ",".join([part] * (size // (len(part) + 1))) + "]"


def parts() -> Iterator[str]:
    """Members' values that would be millions of objects."""
    for part in ("[]", '{"a":[{"file_id":1}]}'):
        yield many(part)


def hostile() -> Iterator[tuple[str, Callable[[], object]]]:
    """What a provider's answers may have of them, and what reads it."""
    expected = Expected("model")
    for part in parts():
        about = part[:20]
        for name in ("x", "content", "usage"):
            body = f'{{"model":"m","{name}":{part}}}'.encode()
            yield f"{name} {about}", lambda body=body: JsonMeter().read(body)  # type: ignore[misc]
        yield f"input {about}", lambda part=part: JsonMeter().read(f'{{"content":[{{"input":{part}}}]}}'.encode())  # type: ignore[misc]
        yield "an error in disguise", lambda body=body: cloud_errors.masked(body)  # type: ignore[misc]
        for kind, name in (
            ("message_start", "message"),
            ("message_delta", "usage"),
            ("content_block_start", "content_block"),
        ):
            one = f'event: {kind}\ndata: {{"type":"{kind}","{name}":{part}}}\n\n'.encode()
            yield f"{kind} {about}", lambda one=one: StreamMeter().feed(one)  # type: ignore[misc]
        for name in ("x", "choices", "error"):
            body = f'{{"{name}":{part}}}'.encode()
            yield f"completion {name} {about}", lambda body=body: completion.read(body)  # type: ignore[misc]
        chunk = f'data: {{"choices":[{{"delta":{{"content":{part}}}}}]}}\n\n'.encode()
        yield f"chunk {about}", lambda chunk=chunk: EventTranslation(expected).feed(chunk)  # type: ignore[misc]
        yield f"said {about}", lambda part=part: faults.of_answer(500, part.encode(), "m", "")  # type: ignore[misc]
        called = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": f'{{"a":{part}}}'}}]}}
        answer = json.dumps({"choices": [called | {"finish_reason": "stop"}], "usage": {}}).encode()
        yield f"arguments {about}", lambda answer=answer: message(completion.read(answer), expected)  # type: ignore[misc]


def cpu(function: Callable[[], object]) -> float:
    before = time.thread_time()
    with suppress(ValueError):
        function()
    return time.thread_time() - before


def copying() -> float:
    body = bytes(COPIED)
    return cpu(lambda: bytearray(body))


@pytest.mark.long
def test_no_answer_holds_up_the_loop_for_longer_than_a_few_copies_take() -> None:
    for name, read in hostile():
        # What another process does to the machine meanwhile is nothing of ours.
        tries = (cpu(read) / copying() for _ in range(3))
        assert any(copies < MOST_COPIES for copies in tries), name


def test_an_unread_answer_takes_no_memory() -> None:
    body = f'{{"x":{many("[]", 1 << 20)},"content":{many("[]", 1 << 20)},"usage":{json.dumps(USAGE)}}}'.encode()
    meter = JsonMeter()
    tracemalloc.start()
    try:
        assert meter.read(body)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()
    assert meter.reading.usage == USAGE


def whole(extra: dict[str, Any]) -> bytes:
    return json.dumps(
        {"model": "m", "stop_reason": "end_turn", "container": {"id": "c"}, "content": BLOCKS, "usage": USAGE} | extra
    ).encode()


def streamed(extra: dict[str, Any]) -> bytes:
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "m", "usage": USAGE, "container": {"id": "c"}}},
        *({"type": "content_block_start", "index": n, "content_block": block} for n, block in enumerate(BLOCKS)),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    ]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one | extra).encode()) for one in said
    )


def test_a_long_answer_says_what_a_short_one_does() -> None:
    extras: list[dict[str, Any]] = [{}, {"x": [[]] * 200_000}]
    for meter in (JsonMeter(), StreamMeter()):
        for extra in extras:
            if isinstance(meter, JsonMeter):
                meter = JsonMeter()
                assert meter.read(whole(extra))
            else:
                meter = StreamMeter()
                meter.feed(streamed(extra))
            reading = meter.reading
            assert (reading.model, reading.stop_reason, reading.usage, reading.wrote) == ("m", "end_turn", USAGE, True)
            # A long block of a stream is looked into for files only.
            signed = [State("signature", "a signature")] if isinstance(meter, JsonMeter) or not extra else []
            assert meter.states == [State("container", "c"), *signed, State("file", "file_1")]
            if isinstance(meter, JsonMeter):
                assert reading.seen.output_tokens > len(BLOCKS[-1]["text"]) * 2 // 5


@pytest.mark.parametrize("size", [10, 60_000])
def test_a_long_completion_says_what_a_short_one_does(size: int) -> None:
    text, written = "one, two, " * size, json.dumps({"a": [1] * size})
    said = {
        "id": "i",
        "model": "m",
        "choices": [
            {
                "message": {
                    "content": text,
                    "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": written}}],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    expected = Expected("model")
    answer = json.loads(message(completion.read(json.dumps(said).encode()), expected))
    assert answer["content"] == [
        {"type": "text", "text": text},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1] * size}},
    ]
    assert answer["usage"]["output_tokens"] == 4


def test_an_outline_says_whether_it_left_something_out() -> None:
    shape = outline.Members(a=None, b=outline.Elements(outline.Members(c=None)))
    for body, found, complete in (
        (b'{"a":1,"b":[{"c":2,"d":3}]}', {"a": 1, "b": [{"c": 2, "d": 3}]}, True),
        (b'{"a":1,"b":[%b]}' % b",".join([b'{"c":2}'] * 900), {"a": 1, "b": [{"c": 2}] * 900}, True),
    ):
        read = outline.Outline()
        assert (read.read(body, shape), read.whole) == (found, complete)
    read = outline.Outline()
    assert read.read(b'{"a":%b,"b":%b}' % ((many("[]", 1 << 18).encode(),) * 2), shape) is not None
    assert not read.whole


def test_an_answer_binds_no_more_than_a_request_can_name() -> None:
    files = [{"type": "output", "file_id": f"file_{number}"} for number in range(700)]
    block = BLOCKS[2] | {"content": {"type": "bash_code_execution_result", "content": files}}
    json_meter, stream_meter = JsonMeter(), StreamMeter()
    json_meter.read(json.dumps({"content": [block] * 4}).encode())
    kept = len(json_meter.states)
    assert kept == MOST_STATES
    event = {"type": "content_block_start", "index": 0, "content_block": block}
    kept = 0
    for _ in range(4):
        stream_meter.feed(b"event: content_block_start\ndata: %b\n\n" % json.dumps(event).encode())
        kept += len(stream_meter.states)
        stream_meter.states = []
    assert kept == MOST_STATES == MOST_FILES


@pytest.mark.parametrize(
    "line", [b"no line", b'{"custom_id":"%b","result":{"type":"expired"}}' % (b"a" * 1000)], ids=["broken", "made up"]
)
def test_results_without_end_take_neither_memory_nor_the_log(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    batch = KnownBatch(uuid4(), "b", "anthropic", None, now, now, 2, Decimal(1), "", False, False, "", "")
    book = pricing.build([])
    meter, settled = ResultsMeter(batch, book.price, book.unpriced()), 0
    for _ in range(100):
        meter.feed((line + b"\n") * 100)
        settled += len(msgspec.json.decode(meter.take(PORTION)))
    assert not meter.finish()
    assert settled <= batch.requests + SPARE
    assert sum(map(len, meter.custom_ids)) <= (batch.requests + SPARE) * ID_LENGTH
    assert len(caplog.records) <= 4
