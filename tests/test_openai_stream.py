"""A streamed chat completion in Anthropic's events: their order, whatever the provider's chunks look like and wherever
they are cut."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from typing import Any

import pytest
from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st

from messages_api.events import StreamMeter
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
    assert decode(events.feed(chunk(tool_call(0, '{"a'))))[-1][1]["delta"]["partial_json"] == '{"a'
    (delta,) = decode(events.feed(chunk(tool_call(0, '": "}'))))
    assert delta[1]["delta"] == {"type": "input_json_delta", "partial_json": '": "}'}
    assert decode(events.feed(chunk(tool_call(0, '"}'))))[-1][0] == "content_block_stop"


# Tools


def whole_blocks(*tool_calls: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of an answer that isn't streamed."""
    said = {
        "choices": [{"message": {"role": "assistant", "tool_calls": tool_calls}, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    content: list[dict[str, Any]] = json.loads(answer.message(completion.read(json.dumps(said).encode()), PLAIN))[
        "content"
    ]
    return content


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


def test_a_name_may_come_in_pieces_and_an_id_late():
    (made,) = tools(tool_call(0, "", "get_"), tool_call(0, "", "weather"), tool_call(0, '{"a": 1}', id="call_a"))
    assert made == {"type": "tool_use", "id": "call_a", "name": "get_weather", "input": {"a": 1}}


def test_an_id_that_comes_too_late_is_no_other_call():
    (made,) = tools(tool_call(0, '{"a":', "t"), tool_call(0, "1}", "t", "call_a"))
    assert made["id"].startswith("toolu_")
    assert made["input"] == {"a": 1}


def test_whole_calls_of_one_index_and_without_ids_are_calls_of_their_own():
    made = tools(tool_call(0, '{"n": 1}', "t"), tool_call(0, '{"n": 1}', "t"), tool_call(0, '{"n": 2}', "u"))
    assert [(block["name"], block["input"]) for block in made] == [("t", {"n": 1}), ("t", {"n": 1}), ("u", {"n": 2})]


def test_calls_of_one_id_are_told_apart():
    one, other = tools(tool_call(0, '{"n": 1}', "t", "call_a"), tool_call(1, '{"n": 2}', "t", "call_a"))
    assert (one["id"], one["input"], other["input"]) == ("call_a", {"n": 1}, {"n": 2})
    assert other["id"].startswith("toolu_")
    one, other = whole_blocks(*tool_call(None, "{}", "t", "x")["tool_calls"] * 2)
    assert one["id"] == "x"
    assert other["id"].startswith("toolu_")


def test_a_call_that_is_said_again_at_its_end_is_one_call():
    (made,) = tools(
        tool_call(0, '{"a": ', "t", "call_a"), tool_call(0, "1}"), tool_call(0, '{"a": 1}', "t", "call_a"), {}
    )
    assert made["input"] == {"a": 1}
    (made,) = tools(tool_call(0, '{"a": 1}', "t", "call_a"), tool_call(0, "", "t", "call_a"), tool_call(0, " \n"))
    assert made["input"] == {"a": 1}


def test_parts_without_an_index_find_their_call_by_its_id():
    made = tools(
        tool_call(None, '{"n":', "t", "call_a"),
        tool_call(None, '{"n":', "u", "call_b"),
        tool_call(None, " 1}", id="call_a"),
        tool_call(None, " 2}"),
    )
    assert [(block["name"], block["input"]) for block in made] == [("t", {"n": 1}), ("u", {"n": 2})]


@pytest.mark.parametrize(
    ("said", "after"), [({"content": "Wait."}, ["Wait.Done."]), ({"reasoning_content": "Hm."}, ["Hm.", "Done."])]
)
def test_what_is_said_in_the_middle_of_a_call_follows_it(said, after):
    made = tools(tool_call(0, '{"n":', "t", "call_a"), said, tool_call(0, " 1}"), {"content": "Done."})
    assert made[0]["input"] == {"n": 1}
    assert [block[block["type"]] for block in made[1:]] == after


def test_what_is_said_in_the_middle_of_a_call_that_was_cut_is_not_lost():
    events = translated([chunk(tool_call(0, '{"n":', "t", "a")), chunk({"content": "So."}), chunk({}, "length"), DONE])
    assert [data["content_block"]["type"] for kind, data in events if kind == "content_block_start"] == [
        "tool_use",
        "text",
    ]
    assert last(events)["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("null", {}),
        ("[]", {}),
        (" \n", {}),
        (' \n{"a": 1}\n', {"a": 1}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('"{\\"a\\": 1}"', {"INVALID_JSON": '"{\\"a\\": 1}"'}),
        ("Cologne", {"INVALID_JSON": "Cologne"}),
        ('{"a": "\\\\"}', {"a": "\\"}),
        ('{"a": ["}\\"{", {"b": []}]}', {"a": ['}"{', {"b": []}]}),
    ],
)
def test_input_is_an_object_whatever_was_written(written, made):
    assert whole_blocks(*tool_call(0, written, "t", "a")["tool_calls"])[0]["input"] == made
    for size in (1, 2, len(written)):
        cuts = [written[at : at + size] for at in range(0, len(written), size)]
        both = tools(tool_call(0, "", "t", "a"), *(tool_call(0, part) for part in cuts), tool_call(1, "{}", "u", "b"))
        assert [block["input"] for block in both] == [made, {}]


def test_a_stray_bracket_after_a_call_is_nobodys():
    (made,) = tools(tool_call(0, '{"a": 1}}', "t", "a"), tool_call(0, "}"))
    assert made["input"] == {"a": 1}


def test_calls_that_say_nothing_are_none():
    nothing = {"custom": {"name": "", "input": ""}, "function": {"name": "", "arguments": ""}, "id": "", "type": ""}
    events = translated([chunk({"content": "Hi", "tool_calls": [nothing]}), chunk({}, "stop"), DONE])
    assert blocks(events) == [{"type": "text", "text": "Hi"}]
    assert whole_blocks(nothing) == []


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
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}]},
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


@given(st.lists(st.integers(0, 400), max_size=5))
def test_what_came_before_nonsense_is_told_wherever_it_is_cut(places):
    body = b"".join([*chunks("Grüße")[:2], b"data: {]\n\n", chunk({"content": "more"})])
    events, out = Events(PLAIN), b""
    cuts = sorted({0, len(body), *(place for place in places if place < len(body))})
    with contextlib.suppress(ValueError):
        for start, end in itertools.pairwise(cuts):
            if not events.broken:
                out += events.feed(body[start:end])
    assert events.broken
    assert [data["delta"]["text"] for kind, data in decode(out) if kind == "content_block_delta"] == ["Grüße"]


def test_what_follows_the_end_is_nobodys():
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
def test_an_error_is_one_wherever_it_says_so(said, kind, words):
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


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: {\n\n"],
        [b"data: []\n\n"],
        [b'data: {"choices": 7}\n\n'],
        [DONE],
        [chunk(tool_call(0, "{}")), chunk({}, "tool_calls"), DONE],
        [
            chunk(tool_call(0, '{"a": 1}', "t", "a")),
            chunk(tool_call(1, "{}", "t", "b")),
            chunk(tool_call(0, '{"n": 1}')),
        ],
        [b'data: {"choices": [' + b"[" * 100_000 + b"\n\n"],
        [b'data: {"choices": [{"delta": {"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}\n\n"],
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
    "audio",
    "transcript",
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
            st.fixed_dictionaries(
                {}, optional={"index": nonsense, "delta": parts, "message": parts, "finish_reason": nonsense}
            ),
            max_size=2,
        )
    },
    optional={"usage": parts, "error": nonsense, "id": nonsense, "model": nonsense},
)


def in_order(events: list[Event]) -> None:
    """Check Anthropic's order of events, whatever is in them."""
    kinds = [kind.removeprefix("content_block_") for kind, _ in events if kind != "ping"]
    assert re.fullmatch(
        r"(message_start( start( delta)* stop)* message_delta message_stop"
        r"|(message_start( start( delta)* stop)*( start( delta)*)? )?error)",
        " ".join(kinds),
    ), kinds
    indexes = [data["index"] for kind, data in events if kind == "content_block_start"]
    assert indexes == list(range(len(indexes)))


@given(st.lists(completions | nonsense, max_size=4))
def test_whatever_a_provider_says_is_translated_or_no_answer(said):
    bodies = [json.dumps(each).encode() for each in said]
    with contextlib.suppress(ValueError):
        events = translated([b"data: " + body + b"\n\n" for body in bodies] + [DONE])
        in_order(events)
    for body in bodies:
        with contextlib.suppress(ValueError):
            made = json.loads(answer.message(completion.read(body), PLAIN))
            assert made["type"] == "message"
        status, error = faults.of_answer(400, body, GPT, "")
        assert 400 <= status < 500
        assert isinstance(json.loads(error)["error"]["message"], str)


def test_numbers_that_json_does_not_have_are_passed_over():
    said = {"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [float("nan"), float("-inf")]}}
    assert blocks(translated([chunk(choices=[said]), chunk({}, "stop"), DONE])) == [{"type": "text", "text": "Hi"}]


def test_half_a_character_is_replaced():
    half = chunk({"content": "@"}).replace(b"@", b"a\\ud83d")
    assert blocks(translated([half, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a?"}]
    broken = chunk({"content": "@"}).replace(b"@", b"a\xff")
    assert blocks(translated([broken, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a\ufffd"}]


# An answer is the same, streamed or not


words = st.text(max_size=12)
inputs = st.dictionaries(words, words | st.integers(-9, 9) | st.lists(words, max_size=2), max_size=2)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={
        "reasoning_content": words | st.none(),
        "content": words | st.none(),
        "refusal": words | st.none(),
        "tool_calls": st.lists(st.tuples(st.sampled_from(["t", "get_weather"]), inputs), max_size=3).map(
            lambda calls: [
                {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for number, (name, given) in enumerate(calls)
            ]
        ),
    },
)
finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call", "eos", "model_length"])


@st.composite
def streamed(draw: st.DrawFn, message: dict[str, Any], finish: str, usage: Any) -> list[bytes]:
    """The chunks of a message, as some provider might stream it, cut anywhere."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: part} for part in draw(cut_up(message.get(name) or ""))]
    numbered = draw(st.booleans())
    for number, call in enumerate(message.get("tool_calls") or []):
        index = draw(st.sampled_from([number, float(number)])) if numbered else None
        first, *rest = draw(cut_up(call["function"]["arguments"]))
        begun = tool_call(None, first, call["function"]["name"], call["id"])
        parts = [begun, *(tool_call(None, part, id=draw(st.sampled_from([None, "", call["id"]]))) for part in rest)]
        for part in parts if index is not None else ():
            part["tool_calls"][0]["index"] = index
        deltas += parts
    last = draw(st.sampled_from(["beside", "alone", "before"]))
    told = {"usage": usage} if last == "beside" else {}
    made = [chunk(delta) for delta in deltas] + [chunk({}, finish, **told)]
    if last == "alone":
        made.append(chunk(usage=usage))
    elif last == "before":
        made.insert(1, chunk(choices=None, usage=usage))
    body = b"".join(draw(st.permutations([b": ping\n\n", b"event: x\nid: 1\n"]))) + b"".join([*made, DONE])
    if draw(st.booleans()):
        body = body.replace(b"\n", b"\r\n")
    places = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=20))})
    return [body[start:end] for start, end in itertools.pairwise(places)]


@st.composite
def cut_up(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=4))})
    return [text[start:end] for start, end in itertools.pairwise(places)] or [text]


def accumulated(events: list[Event]) -> dict[str, Any]:
    """What Anthropic's SDK makes of a stream."""
    message: Any = None
    written: dict[int, bytes] = {}
    for kind, data in events:
        if kind != "ping":
            said: Any = data
            message = accumulate_event(event=said, current_snapshot=message, json_bufs=written)
    made: dict[str, Any] = message.to_dict()
    return made


@given(st.data(), messages, finishes)
def test_an_answer_is_the_same_streamed_or_not(data, message, finish):
    said = {"id": "chatcmpl-1", "model": GPT, "usage": USAGE}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    one = json.loads(answer.message(completion.read(json.dumps(said | {"choices": [choice]}).encode()), PLAIN))
    other = accumulated(translated(data.draw(streamed(message, finish, USAGE))))
    for made in (one, other):
        for block in made["content"]:
            if block["type"] == "thinking":
                assert block.pop("signature").startswith("unsigned_")
    members = ("id", "model", "role", "content", "stop_reason", "stop_sequence")
    assert [one[name] for name in members] == [other[name] for name in members]
    assert all(other["usage"][name] == count for name, count in one["usage"].items())
