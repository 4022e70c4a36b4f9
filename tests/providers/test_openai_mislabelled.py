"""Streams of events that are labelled as something else, or that come in place of an answer in one piece."""

from __future__ import annotations

import json
from typing import Any

import pytest

from messages_api.providers.openai import mislabelled
from tests.support.fake_provider import Upstream, pieces, whole
from tests.support.gateway import Caller, Web, post, row
from tests.support.gpt import check_counted
from tests.support.gpt import gpt_alice as gpt_alice
from tests.support.openai_events import PLAIN, blocks, decode, translated
from tests.support.openai_provider import DONE, USAGE, ask_gpt, chunk, chunks, tool_call

KINDS = ["application/json", "text/plain; charset=utf-8", "application/octet-stream", ""]
STREAM: list[bytes] = [
    chunk({"reasoning_content": "Hm."}),
    chunk({"content": "Hi "}),
    chunk({"content": "you"}),
    chunk(tool_call(0, '{"a": ', "look", "call_1")),
    chunk(tool_call(0, "1}")),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
    DONE,
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_with_another_label_is_one(web_once: Web, upstream: Upstream, gpt_alice: Caller, kind: str) -> None:
    upstream.answer = pieces(200, [b": processing\n\n", *chunks("Hi", " you")], ("content-type", kind))
    answer = post(web_once, gpt_alice.key, ask_gpt(stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert blocks(decode(answer.content)) == [{"type": "text", "text": "Hi you"}]
    check_counted(row())


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_a_stream_in_place_of_an_answer_becomes_one(
    web_once: Web, upstream: Upstream, gpt_alice: Caller, kind: str
) -> None:
    upstream.answer = pieces(200, chunks("Hi", " you"), ("content-type", kind))
    answer = post(web_once, gpt_alice.key, ask_gpt())
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["content"] == [{"type": "text", "text": "Hi you"}]
    assert answer.json()["stop_reason"] == "end_turn"
    check_counted(row())


def test_an_error_in_such_a_stream_is_one(web_once: Web, upstream: Upstream, gpt_alice: Caller) -> None:
    said = {"error": {"message": "Bad.", "type": "invalid_request_error"}}
    upstream.answer = pieces(200, [b"data: " + json.dumps(said).encode() + b"\n\n"])
    answer = post(web_once, gpt_alice.key, ask_gpt())
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Bad.")


def test_a_stream_in_one_piece_says_what_it_says_as_a_stream() -> None:
    made, _ = mislabelled.in_one_piece(b"".join(STREAM), PLAIN)
    read: dict[str, Any] = json.loads(made)
    unsigned = [{name: value for name, value in one.items() if name != "signature"} for one in read["content"]]
    streamed = blocks(translated(STREAM))
    assert unsigned == [{name: value for name, value in one.items() if name != "signature"} for one in streamed]
    assert read["content"][0]["signature"].startswith("unsigned_")
    assert (read["stop_reason"], read["usage"]["output_tokens"]) == ("tool_use", USAGE["completion_tokens"])


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_an_incomplete_one_is_no_answer(cut: int) -> None:
    with pytest.raises(ValueError, match="incomplete"):
        mislabelled.in_one_piece(b"".join(STREAM[:cut]), PLAIN)


def test_a_stream_that_ends_after_whole_tool_calls_is_an_answer() -> None:
    made, _ = mislabelled.in_one_piece(b"".join(STREAM[:5]), PLAIN)
    assert json.loads(made)["stop_reason"] == "tool_use"


@pytest.mark.parametrize("body", [b"\xef\xbb\xbfdata: {}", b"\n\ndata:{}", b": hello", b"event: error\ndata: {}"])
def test_what_begins_like_events_is_a_stream(body: bytes) -> None:
    assert mislabelled.is_stream(body)


@pytest.mark.parametrize("body", [b'{"data": 1}', b"[]", b"", b"<html>", b"database"])
def test_nothing_else_is(body: bytes) -> None:
    assert not mislabelled.is_stream(body)


@pytest.mark.parametrize("name", ["look<|channel|>commentary", "look<|channel|>json", "look <|message|>", "look"])
def test_a_tools_name_loses_the_mark_of_its_models_format(name: str) -> None:
    used = blocks(translated([chunk(tool_call(0, "{}", name, "call_1")), chunk({}, "tool_calls"), DONE]))
    assert used[0]["name"] == "look"


def test_an_answer_in_one_piece_to_a_stream_stays_one(web_once: Web, upstream: Upstream, gpt_alice: Caller) -> None:
    told = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}
    upstream.answer = whole(200, json.dumps(told, indent=1).encode(), ("content-type", "text/plain"))
    assert blocks(decode(post(web_once, gpt_alice.key, ask_gpt(stream=True)).content))[0]["text"] == "Hi"
