"""The built-in provider: real shapes, usage that adds up, and trouble on demand."""

from __future__ import annotations

import json
import time

import pytest
from anthropic._streaming import SSEDecoder

from tests.support.gateway import ask, post, refused, row, rows

TOOL = {
    "name": "book",
    "description": "Books a table.",
    "input_schema": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "guests": {"type": "integer", "minimum": 2},
            "where": {"enum": ["inside", "outside"]},
            "notes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "window": {"type": "boolean"},
        },
        "required": ["name", "guests", "where", "notes", "window"],
    },
}


def read_events(answer):
    return [(one.event, json.loads(one.data)) for one in SSEDecoder().iter_bytes(iter([answer.content]))]


def test_it_says_back_what_the_last_user_message_said(web, echo_alice):
    body = ask()
    body["messages"] = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "Grüße 👋"}]},
    ]
    answer = post(web, echo_alice.key, body)
    message = answer.json()
    assert message["content"] == [{"type": "text", "text": "Grüße 👋"}]
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "end_turn")
    assert message["model"] == body["model"]
    assert answer.headers["request-id"].startswith("req_echo_")
    entry = row()
    assert (entry.input_tokens, entry.output_tokens) == (
        message["usage"]["input_tokens"],
        message["usage"]["output_tokens"],
    )
    assert entry.cost > 0
    assert entry.provider == "echo"
    assert entry.provider_request_id == answer.headers["request-id"]


def test_a_stream_has_the_events_in_order_and_the_same_usage(web, echo_alice):
    whole = post(web, echo_alice.key, ask("one two three")).json()
    streamed = read_events(post(web, echo_alice.key, ask("one two three", stream=True)))
    kinds = [kind for kind, _ in streamed if kind != "content_block_delta"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(data["delta"]["text"] for kind, data in streamed if kind == "content_block_delta")
    assert text == "one two three"
    assert all(data["type"] == kind for kind, data in streamed)
    usage = streamed[-2][1]["usage"]
    assert usage["output_tokens"] == whole["usage"]["output_tokens"]
    first, second = rows(2)
    assert (first.input_tokens, first.output_tokens) == (second.input_tokens, second.output_tokens)
    assert (first.stream, second.stream) == (False, True)


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "book"}, {"type": "any"}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_tool_is_used_with_input_that_fits_its_schema(web, echo_alice, choice, stream):
    answer = post(web, echo_alice.key, ask(tools=[TOOL], tool_choice=choice, stream=stream))
    if stream:
        streamed = read_events(answer)
        block = streamed[1][1]["content_block"]
        given = json.loads("".join(d["delta"]["partial_json"] for kind, d in streamed if kind == "content_block_delta"))
        reason = streamed[-2][1]["delta"]["stop_reason"]
    else:
        message = answer.json()
        (block,) = message["content"]
        given, reason = block["input"], message["stop_reason"]
    assert (block["type"], block["name"], reason) == ("tool_use", "book", "tool_use")
    assert block["id"].startswith("toolu_")
    assert given == {"name": "echo", "guests": 2, "where": "inside", "notes": ["echo"], "window": True}


def test_it_stops_at_max_tokens(web, echo_alice):
    message = post(web, echo_alice.key, ask("one two three four five six", max_tokens=3)).json()
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] <= 3
    assert message["content"][0]["text"] == "one two"
    nothing = post(web, echo_alice.key, ask("one", max_tokens=0)).json()
    assert (nothing["content"], nothing["usage"]["output_tokens"]) == ([], 0)


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 503, 529])
def test_it_answers_with_an_error_when_asked(web, echo_alice, status):
    answer = post(web, echo_alice.key, ask(f"[echo error={status}]", stream=True))
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert (row().status, row().http_status) == ("refused_by_provider", status)


def test_its_refusal_of_our_account_is_a_503_as_with_any_provider(web, echo_alice):
    refused(post(web, echo_alice.key, ask("[echo error=401]")), 503, "api_error")


def test_it_waits_and_pauses_and_says_many_words_when_asked(web, echo_alice):
    began = time.monotonic()
    answer = post(web, echo_alice.key, ask("hi [echo delay=0.3] [echo words=5] [echo pause=0.05]", stream=True))
    assert time.monotonic() - began > 0.5
    text = "".join(data["delta"]["text"] for kind, data in read_events(answer) if kind == "content_block_delta")
    assert text == "hi hi hi hi hi"


def test_it_breaks_off_when_asked(web, echo_alice):
    streamed = read_events(post(web, echo_alice.key, ask("one two [echo break]", stream=True)))
    assert streamed[-1][0] == "error"
    assert (row().status, row().estimated) == ("failed", True)


def forced(schema):
    return {"tools": [{"name": "x", "input_schema": schema}], "tool_choice": {"type": "any"}}


@pytest.mark.parametrize(
    "odd",
    [
        {"messages": []},
        {"messages": [None, 7, "x"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": None}, 7]}]},
        {"tools": [7, None], "tool_choice": {"type": "any"}},
        forced(7),
        forced({"anyOf": 7}),
        forced({"properties": []}),
        forced({"required": [[]]}),
        forced({"type": "array", "minItems": "x"}),
        forced({"enum": {"a": 1}}),
        forced({"type": ["array"], "minItems": 10**12, "items": {"type": "array", "minItems": 10**12}}),
        {"messages": [{"role": "user", "content": "[echo delay=..] [echo error=9.9.9]"}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": "[echo words=5]"}], "max_tokens": 0},
    ],
    ids=lambda odd: json.dumps(odd)[:50],
)
@pytest.mark.parametrize("stream", [False, True])
def test_odd_requests_never_break_it(web, echo_alice, odd, stream):
    answer = post(web, echo_alice.key, json.dumps(ask(stream=stream) | odd).encode())
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        row()
