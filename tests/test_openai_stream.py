"""A streamed chat completion in Anthropic's events: their order, whatever the provider's chunks look like and wherever
they are cut."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st

from messages_api.metering import StreamMeter
from messages_api.providers.openai import answer, completion, faults
from messages_api.providers.openai.events import Events
from messages_api.providers.openai.expected import Expected
from tests.openai_provider import DONE, GPT, USAGE, chunk, chunks, tool_call

PLAIN = Expected("asked-for", stream=True)

Event = tuple[str, dict[str, Any]]


def translated(parts: list[bytes], expected: Expected = PLAIN) -> list[Event]:
    """The events that come of a stream, as Anthropic's SDK reads them."""
    events = Events(expected)
    out = [events.feed(part) for part in parts]
    return decode(b"".join([*out, events.finish()]))


def decode(body: bytes) -> list[Event]:
    return [(one.event or "", json.loads(one.data)) for one in SSEDecoder().iter_bytes(iter([body]))]


def blocks(events: list[Event]) -> list[dict[str, Any]]:
    """The content that the events make, checked to be in Anthropic's order."""
    kinds = [kind for kind, _ in events if kind != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert not {"message_start", "message_delta", "message_stop"} & set(kinds[1:-2])
    assert [kind for kind, _ in events].count("ping") == ("content_block_start" in kinds)
    content: list[dict[str, Any]] = []
    written = ""
    is_open = False
    for kind, data in events:
        if kind == "content_block_start":
            assert not is_open
            assert data["index"] == len(content)
            content.append(dict(data["content_block"]))
            is_open, written = True, ""
        elif kind in ("content_block_delta", "content_block_stop"):
            assert is_open
            assert data["index"] == len(content) - 1
            if kind == "content_block_stop":
                is_open = False
                if content[-1]["type"] == "tool_use":
                    content[-1]["input"] = json.loads(written or "{}")
                continue
            delta = data["delta"]
            if delta["type"] == "signature_delta":
                assert delta["signature"]
                continue
            name = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[
                delta["type"]
            ]
            if name == "partial_json":
                written += delta[name]
            else:
                content[-1][name] += delta[name]
    assert not is_open
    return content


def last(events: list[Event]) -> dict[str, Any]:
    """The message_delta."""
    return events[-2][1]


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
def test_wherever_a_stream_is_cut_the_events_are_the_same(places):
    cuts = sorted({0, len(ODD), *places})
    events = translated([ODD[start:end] for start, end in itertools.pairwise(cuts)])
    assert blocks(events) == ODD_BLOCKS
    assert last(events)["delta"]["stop_reason"] == "tool_use"
    assert last(events)["usage"]["output_tokens"] == 7


def test_a_stream_may_come_byte_by_byte():
    assert blocks(translated([bytes([byte]) for byte in ODD])) == ODD_BLOCKS


def test_what_can_be_said_is_said_at_once():
    events = Events(PLAIN)
    for part in chunks("one", "two")[1:3]:
        assert decode(events.feed(part))[-1][0] == "content_block_delta"
    events.feed(chunk(tool_call(0, "", "t", "call_a")))
    (delta,) = decode(events.feed(chunk(tool_call(0, '{"a'))))
    assert delta[1]["delta"] == {"type": "input_json_delta", "partial_json": '{"a'}


# Tools


def tools(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[dict[str, Any]]:
    """The blocks that these deltas make."""
    events = translated([*(chunk(delta) for delta in deltas), chunk({}, finish), DONE])
    assert last(events)["delta"]["stop_reason"] == "tool_use"
    return blocks(events)


def test_whole_calls_without_an_index_are_calls_of_their_own():
    made = tools(tool_call(None, '{"n": 1}', "t", "call_a"), tool_call(None, '{"n": 2}', "t", "call_b"), finish="stop")
    assert [(block["id"], block["input"]) for block in made] == [("call_a", {"n": 1}), ("call_b", {"n": 2})]


def test_whole_calls_of_one_index_are_calls_of_their_own():
    made = tools(tool_call(0, '{"n": 1}', "t", "call_a"), tool_call(0, '{"n": 2}', "t", "call_b"))
    assert [(block["id"], block["input"]) for block in made] == [("call_a", {"n": 1}), ("call_b", {"n": 2})]


def test_a_call_without_an_id_gets_one():
    one, other = tools(tool_call(None, "{}", "t", ""), tool_call(None, "{}", "t"))
    assert one["id"].startswith("toolu_")
    assert other["id"] not in ("", one["id"])


def test_parts_without_an_index_belong_to_the_last_call():
    (made,) = tools(tool_call(None, '{"a":', "t", "call_a"), tool_call(None, "1}"))
    assert made["input"] == {"a": 1}


def test_a_name_that_is_repeated_is_said_once():
    (made,) = tools(tool_call(0, '{"a":', "t", "call_a"), tool_call(0, "1}", "t", "call_a"))
    assert (made["name"], made["input"]) == ("t", {"a": 1})


def test_calls_whose_parts_are_mixed_come_one_after_another():
    made = tools(
        tool_call(0, '{"a"', "t", "call_a"),
        tool_call(1, '{"b"', "u", "call_b"),
        tool_call(0, ": 1}"),
        tool_call(2, "{}", "v", "call_c"),
        tool_call(1, ": 2}"),
    )
    assert [(block["name"], block["input"]) for block in made] == [("t", {"a": 1}), ("u", {"b": 2}), ("v", {})]


@given(st.data())
def test_however_the_parts_of_calls_are_mixed_each_call_is_whole(data):
    inputs = [{"n": number, "text": 'a "quoted" } brace {'} for number in range(3)]
    written = [json.dumps(value) for value in inputs]
    left = [data.draw(st.lists(st.integers(1, len(text) - 1), max_size=3, unique=True).map(sorted)) for text in written]
    parts: list[list[dict[str, Any]]] = []
    for number, (text, places) in enumerate(zip(written, left, strict=True)):
        cuts = [0, *places, len(text)]
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        first = tool_call(number, "", f"t{number}", f"call_{number}")
        parts.append([first, *(tool_call(number, piece) for piece in pieces)])
    order = data.draw(st.permutations([number for number, each in enumerate(parts) for _ in each]))
    queues = [iter(each) for each in parts]
    made = {block["name"]: block["input"] for block in tools(*(next(queues[number]) for number in order))}
    assert made == {f"t{number}": value for number, value in enumerate(inputs)}


def test_a_call_without_arguments_is_an_empty_input():
    (made,) = tools(tool_call(0, "", "t", "call_a"))
    assert made["input"] == {}


def test_arguments_may_be_an_object():
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "t", "arguments": {"a": [1, "ü"]}}}]}
    assert tools(delta)[0]["input"] == {"a": [1, "ü"]}


def test_a_function_call_of_old_is_a_tool_call():
    (made,) = tools({"function_call": {"name": "t", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    assert (made["name"], made["input"]) == ("t", {})


# Text and thinking


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
        {"content": "Hm.", "extra_content": {"google": {"thought": True}}},
    ],
)
def test_thinking_is_found_wherever_it_is(delta):
    parts = [chunk(delta), chunk({"content": "Yes."}), chunk({}, "stop"), DONE]
    assert blocks(translated(parts)) == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Yes."},
    ]
    hidden = Expected("asked-for", stream=True, shows_thinking=False)
    assert blocks(translated(parts, hidden)) == [{"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("delta", "finish"), [({"refusal": "I can't."}, "stop"), ({"content": "I can't."}, "content_filter")]
)
def test_a_refusal_is_said_and_named(delta, finish):
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
    ],
)
def test_usage_is_found_wherever_it_is(parts):
    events = translated(parts)
    assert blocks(events) == [{"type": "text", "text": "Hi"}]
    assert last(events)["usage"]["input_tokens"] == 36
    assert last(events)["usage"]["output_tokens"] == 7


def test_usage_that_nobody_reports_is_marked_as_an_estimate():
    events = translated([chunk({"content": "x" * 30}), chunk({}, "stop"), DONE])
    assert last(events)["usage"] == {"input_tokens": 0, "output_tokens": 10, "estimated": True}
    meter = StreamMeter()
    meter.feed(b"".join(Events(PLAIN).feed(part) for part in [b"".join(chunks("x", usage={}))]))
    assert meter.stopped
    assert not meter.reading.countable


def test_a_stream_that_ends_before_its_time_has_no_last_event():
    events = translated(chunks("Hi")[:2])
    assert [kind for kind, _ in events] == ["message_start", "content_block_start", "ping", "content_block_delta"]


def test_what_follows_the_end_is_nobodys():
    assert translated([*chunks("Hi"), chunk({"content": "more"}), b"data: garbage\n\n"]) == translated(chunks("Hi"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ({"message": "Slow down.", "type": "rate_limit_exceeded"}, "rate_limit_error", "Slow down."),
        ({"message": "Upstream died", "code": 502}, "api_error", "Upstream died"),
        ("out of memory", "api_error", "out of memory"),
        ({"message": "Your key sk-123 is bad", "code": "invalid_api_key"}, "api_error", "the gateway's own key"),
        ({}, "api_error", "broke off"),
    ],
)
def test_an_error_in_a_stream_is_its_last_event(error, kind, words):
    broken = b"data: " + json.dumps({"id": "x", "error": error or {"x": 1}, "choices": []}).encode() + b"\n\n"
    events = translated([*chunks("Hi")[:2], broken, *chunks("more")])
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == kind
    assert words in events[-1][1]["error"]["message"]
    assert "sk-123" not in json.dumps(events)


def test_a_choice_that_ends_in_an_error_is_one():
    assert translated([chunk({"content": "Hi"}), chunk({}, "error")])[-1][0] == "error"
    assert translated([chunk({}, "insufficient_system_resource")])[-1][1]["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: {\n\n"],
        [b"data: []\n\n"],
        [b'data: {"choices": 7}\n\n'],
        [DONE],
        [chunk(tool_call(0, "{}")), chunk({}, "tool_calls"), DONE],
        [chunk(tool_call(0, "{}", "t", "a")), chunk(tool_call(1, "{}", "t", "b")), chunk(tool_call(0, "{}"))],
    ],
)
def test_nonsense_is_no_stream(parts):
    with pytest.raises(ValueError):  # noqa: PT011
        translated(parts)


NAMES = [
    "id",
    "model",
    "choices",
    "usage",
    "error",
    "service_tier",
    "x_groq",
    "delta",
    "message",
    "finish_reason",
    "stop_reason",
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "tool_calls",
    "function_call",
    "extra_content",
    "index",
    "function",
    "name",
    "arguments",
    "type",
    "text",
    "thinking",
    "summary",
    "google",
    "thought",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "code",
    "status",
    "metadata",
    "raw",
    "detail",
]
WORDS = ["", "text", "thinking", "stop", "error", "tool_calls", "model_not_found", "429", "{}", "\ud83d", "x"]
nonsense: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
parts = st.dictionaries(st.sampled_from(NAMES), nonsense, max_size=4)
completions = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({}, optional={"delta": parts, "message": parts, "finish_reason": nonsense}),
            max_size=1,
        )
    },
    optional={"usage": parts, "error": nonsense, "id": nonsense, "model": nonsense},
)


@given(st.lists(completions | nonsense, max_size=4))
def test_whatever_a_provider_says_is_translated_or_no_answer(said):
    bodies = [json.dumps(each).encode() for each in said]
    with contextlib.suppress(ValueError):
        translated([b"data: " + body + b"\n\n" for body in bodies] + [DONE])
    for body in bodies:
        with contextlib.suppress(ValueError):
            made = json.loads(answer.message(completion.read(body), PLAIN))
            assert made["type"] == "message"
        status, error = faults.of_answer(400, body, GPT, "")
        assert status == 400
        assert isinstance(json.loads(error)["error"]["message"], str)


def test_half_a_character_is_replaced():
    half = chunk({"content": "@"}).replace(b"@", b"a\\ud83d")
    assert blocks(translated([half, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a?"}]
    broken = chunk({"content": "@"}).replace(b"@", b"a\xff")
    assert blocks(translated([broken, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a\ufffd"}]
