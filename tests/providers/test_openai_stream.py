"""A streamed chat completion in Anthropic's events: their order, for chunks of any form and at any cuts."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.answer.events import StreamMeter
from messages_api.providers.openai import completion
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from tests.support.openai_events import PLAIN, blocks, decode, last, translated
from tests.support.openai_provider import DONE, GPT, USAGE, chunk, chunks, tool_call


def test_a_small_stream_becomes_a_small_stream():
    assert translated(chunks("Grü", "ße 👋")) == [
        (
            "message_start",
            {
                "type": "message_start",
                "message": {
                    "id": "chatcmpl-1",
                    "type": "message",
                    "role": "assistant",
                    "model": GPT,
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {
                        "input_tokens": 0,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "output_tokens": 0,
                        "service_tier": "standard",
                    },
                },
            },
        ),
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        ("ping", {"type": "ping"}),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grü"}},
        ),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ße 👋"}},
        ),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {
                    "input_tokens": 36,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 64,
                    "output_tokens": 7,
                    "output_tokens_details": {"thinking_tokens": 3},
                },
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]


# One of everything that providers do. Each of these makes a text, thinking and two tool calls.
ODD = b"".join(
    [
        b": OPENROUTER PROCESSING\n\n\r\n: another\r\n\r\n",
        chunk({"role": "assistant", "content": None, "reasoning": None, "tool_calls": None}),
        chunk({}),
        chunk({"reasoning_content": "Hm, 👋"}),
        chunk({"reasoning": " so.", "content": ""}),
        b"event: message\nid: 7\nretry: 10\n" + chunk({"content": "Let me "}).replace(b"\n", b"\r\n"),
        chunk({"content": [{"type": "text", "text": "look."}]}),
        chunk(tool_call(3, "", "weather", "call_a")),
        chunk(tool_call(3, '{"ci')),
        chunk(tool_call(3, 'ty": "K\\u00f6ln"}')),
        chunk(tool_call(7, '{"city": "Bonn"}', "weather", "call_b"), "tool_calls"),
        chunk(usage=USAGE),
        DONE,
    ]
)
ODD_BLOCKS = [
    {"type": "thinking", "thinking": "Hm, 👋 so.", "signature": ""},
    {"type": "text", "text": "Let me look."},
    {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Köln"}},
    {"type": "tool_use", "id": "call_b", "name": "weather", "input": {"city": "Bonn"}},
]


@given(st.lists(st.integers(0, len(ODD)), max_size=40))
def test_the_events_of_a_stream_are_the_same_at_any_cut(places):
    cuts = sorted({0, len(ODD), *places})
    events = translated([ODD[start:end] for start, end in itertools.pairwise(cuts)])
    assert blocks(events) == ODD_BLOCKS
    assert last(events)["delta"]["stop_reason"] == "tool_use"
    assert last(events)["usage"]["output_tokens"] == 7


def test_a_stream_may_come_byte_by_byte():
    assert blocks(translated([bytes([byte]) for byte in ODD])) == ODD_BLOCKS


def test_certain_text_is_sent_at_once():
    events = EventTranslation(PLAIN)
    for part in chunks("one", "two")[1:3]:
        assert decode(events.feed(part))[-1][0] == "content_block_delta"
    events.feed(chunk(tool_call(0, "", "t", "call_a")))
    assert decode(events.feed(chunk(tool_call(0, '{"a'))))[-1][1]["delta"]["partial_json"] == '{"a'
    (delta,) = decode(events.feed(chunk(tool_call(0, '": "}'))))
    assert delta[1]["delta"] == {"type": "input_json_delta", "partial_json": '": "}'}
    assert decode(events.feed(chunk(tool_call(0, '"}'))))[-1][0] == "content_block_stop"


# Text and thinking


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}]},
        {"content": "Hm.", "extra_content": {"google": {"thought": True}}},
    ],
)
def test_thinking_is_found_in_each_of_its_members(delta):
    parts = [chunk(delta), chunk({"content": "Yes."}), chunk({}, "stop"), DONE]
    assert blocks(translated(parts)) == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Yes."},
    ]
    hidden = Expected("asked-for", stream=True, shows_thinking=False)
    assert blocks(translated(parts, hidden)) == [{"type": "text", "text": "Yes."}]


def test_what_was_spoken_is_text():
    parts = [chunk({"audio": {"id": "audio_1", "transcript": part}}) for part in ("Good ", "day.")]
    sound = chunk({"content": None, "audio": {"data": "UklGRg=="}})
    assert blocks(translated([*parts, sound, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "Good day."}]


def test_only_one_of_several_choices_is_the_answer():
    said = [
        {"index": number, "delta": {"content": text}} for number, text in [(0, "Yes"), (1, "No"), (0, "!"), (1, "?")]
    ]
    parts = [chunk(choices=[said[0], said[1]]), chunk(choices=[said[3]]), chunk(choices=[said[2]])]
    over = chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "length"}])
    events = translated([*parts, over, chunk({}, "stop"), DONE])
    assert blocks(events) == [{"type": "text", "text": "Yes!"}]
    assert last(events)["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("delta", "finish"), [({"refusal": "I can't."}, "stop"), ({"content": "I can't."}, "content_filter")]
)
def test_a_refusal_is_translated_and_named(delta, finish):
    events = translated([chunk(delta), chunk({}, finish), DONE])
    assert blocks(events) == [{"type": "text", "text": "I can't."}]
    assert last(events)["delta"]["stop_reason"] == "refusal"
    assert last(events)["delta"]["stop_details"]["type"] == "refusal"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "end_turn"),
        ("model_length", "model_context_window_exceeded"),
        ("MAX_TOKENS", "max_tokens"),
        ("something_new", "end_turn"),
    ],
)
def test_the_reason_to_stop_is_anthropics(finish, reason):
    events = translated(chunks("Hi", finish=finish))
    assert last(events)["delta"] == {"stop_reason": reason, "stop_sequence": None}


def test_the_sequence_that_it_stopped_at_is_named_where_the_provider_says_it():
    stopped = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    parts = [chunk({"content": "Hi"}), chunk(choices=[stopped]), DONE]
    at_end = Expected("asked-for", stream=True, stops=("STOP", "END"))
    assert last(translated(parts, at_end))["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert last(translated(parts))["delta"]["stop_reason"] == "end_turn"


# Usage and the end


def without_output(usage: dict[str, Any]) -> dict[str, Any]:
    """As Google leaves numbers out that are nothing but the difference of others."""
    return {name: value for name, value in usage.items() if name != "completion_tokens"}


@pytest.mark.parametrize(
    "parts",
    [
        [chunk({"content": "Hi"}), chunk({}, "stop", usage=USAGE), DONE],
        [chunk({"content": "Hi"}, usage=USAGE | {"completion_tokens": 1}), chunk({}, "stop", usage=USAGE), DONE],
        [chunk({"content": "Hi"}), chunk({}, "stop"), chunk({"content": ""}, "stop", usage=USAGE), DONE],
        [chunk({"content": "Hi"}), chunk({}, "stop"), chunk(usage=USAGE)],
        [chunk({"content": "Hi"}), chunk({}, "stop"), chunk(usage=USAGE).rstrip(b"\n")],
        [chunk({"content": "Hi"}), chunk({}, "stop", x_groq={"usage": USAGE}), DONE],
        [chunk({"content": "Hi"}), chunk({}, ""), chunk(usage=USAGE), DONE],
        [b"".join(chunks("Hi")).replace(b"data: ", b"data:")],
        [b"\xef\xbb\xbf", b"".join(chunks("Hi"))],
        [b"".join(chunks("Hi")).replace(b', "choices"', b',\r\ndata: "choices"').replace(b"\n\n", b"\r\n\r\n")],
        [chunk({"content": "Hi"}), chunk({}, "stop", usage=None), chunk(choices=None, usage=USAGE), DONE],
        [chunk({"content": "Hi"}), chunk({}, "stop", usage=USAGE | {"prompt_tokens": 100.0, "completion_tokens": "7"})],
        [chunk({"content": "Hi"}), chunk({}, "stop", usage=without_output(USAGE)), DONE],
    ],
)
def test_usage_is_found_in_each_of_its_places(parts):
    events = translated(parts)
    assert blocks(events) == [{"type": "text", "text": "Hi"}]
    assert last(events)["usage"]["input_tokens"] == 36
    assert last(events)["usage"]["output_tokens"] == 7


def test_unreported_usage_is_marked_as_an_estimate():
    events = translated([chunk({"content": "x" * 30}), chunk({}, "stop"), DONE])
    assert last(events)["usage"] == {"input_tokens": 0, "output_tokens": 10, "estimated": True}
    meter = StreamMeter()
    meter.feed(b"".join(EventTranslation(PLAIN).feed(part) for part in [b"".join(chunks("x", usage={}))]))
    assert meter.stopped
    assert not meter.reading.countable


def test_a_stream_that_ends_before_its_time_has_no_last_event():
    events = translated(chunks("Hi")[:2])
    assert [kind for kind, _ in events] == ["message_start", "content_block_start", "ping", "content_block_delta"]


@given(st.lists(st.integers(0, 400), max_size=5))
def test_the_events_before_a_malformed_line_are_sent_at_any_cut(places):
    body = b"".join([*chunks("Grüße")[:2], b"data: {]\n\n", chunk({"content": "more"})])
    events, out = EventTranslation(PLAIN), b""
    cuts = sorted({0, len(body), *(place for place in places if place < len(body))})
    with contextlib.suppress(ValueError):
        for start, end in itertools.pairwise(cuts):
            if not events.broken:
                out += events.feed(body[start:end])
    assert events.broken
    assert [data["delta"]["text"] for kind, data in decode(out) if kind == "content_block_delta"] == ["Grüße"]


def test_bytes_after_the_end_are_dropped():
    assert translated([*chunks("Hi"), chunk({"content": "more"}), b"data: garbage\n\n"]) == translated(chunks("Hi"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ({"message": "Slow down.", "type": "rate_limit_exceeded"}, "rate_limit_error", "Slow down."),
        ({"message": "Upstream died", "code": 502}, "api_error", "Upstream died"),
        ("out of memory", "api_error", "out of memory"),
        ({"message": "Your key sk-123 is bad", "code": "invalid_api_key"}, "api_error", "the gateway's own key"),
        ({"message": "Failed.", "code": "tool_use_failed", "status_code": 400}, "invalid_request_error", "Failed."),
        ({}, "api_error", "ended its answer too early"),
    ],
)
def test_an_error_in_a_stream_is_its_last_event(error, kind, words):
    broken = b"data: " + json.dumps({"id": "x", "error": error or {"x": 1}, "choices": []}).encode() + b"\n\n"
    events = translated([*chunks("Hi")[:2], broken, *chunks("more")])
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == kind
    assert words in events[-1][1]["error"]["message"]
    assert "sk-123" not in json.dumps(events)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            {"object": "error", "message": "Too many", "type": "rate_limit_error", "code": 429},
            "rate_limit_error",
            "Too",
        ),
        ({"message": "Not now", "type": "service_unavailable", "param": None, "code": "3505"}, "api_error", "Not now"),
        ({"detail": "Out of memory"}, "api_error", "Out of memory"),
        ({"error": "Out of memory", "error_type": "generation"}, "api_error", "Out of memory"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}, "overloaded_error", "Busy"),
    ],
)
def test_an_error_is_found_in_each_of_its_places(said, kind, words):
    told = b"event: error\ndata: " + json.dumps(said).encode() + b"\n\n"
    for before in ([], chunks("Hi")[:2]):
        events = translated([*before, told, *chunks("more")])
        assert events[-1][0] == "error"
        assert (events[-1][1]["error"]["type"], words in events[-1][1]["error"]["message"]) == (kind, True)
    assert completion.error(completion.read(json.dumps(said).encode())) is not None


def test_a_choice_that_ends_in_an_error_is_one():
    told = {"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "Slow down."}}
    assert translated([chunk(choices=[told])])[-1][1]["error"] == {"type": "rate_limit_error", "message": "Slow down."}
    assert translated([chunk({"content": "Hi"}), chunk({}, "error")])[-1][0] == "error"
    assert translated([chunk({}, "insufficient_system_resource")])[-1][1]["error"]["type"] == "overloaded_error"
