"""What is seen of an answer's tools and thinking before the provider reports what they cost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import JsonMeter
from messages_api.answer.seen import Use
from messages_api.answer.settlement import Reckoning
from messages_api.process import allowances
from messages_api.request import schema
from tests.support.gateway import MODEL, ask, event, message
from tests.support.recordings import needs_recordings, streams, used
from tests.support.searching import END, PROMPT, SEARCH, started


def test_a_stream_shows_what_it_does_once_it_has_begun():
    meter = StreamMeter()
    meter.feed(event("ping"))
    assert not meter.reading.begun
    meter.feed(started()[0])
    assert meter.reading.begun


def seen(*parts):
    meter = StreamMeter()
    for part in parts:
        meter.feed(part)
    return meter.reading.seen


def test_any_delta_counts_as_one_token_at_least():
    for delta in (
        {"type": "text_delta", "text": "a"},
        {"type": "thinking_delta", "thinking": "a"},
        {"type": "input_json_delta", "partial_json": "1"},
        {"type": "signature_delta", "signature": ""},
    ):
        assert seen(*[event("content_block_delta", index=0, delta=delta)] * 500).output_tokens >= 500
    assert seen(event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a" * 3000})).size == 3000


def test_half_a_character_in_a_tools_input_or_result_is_no_fault():
    for kind in ("server_tool_use", "web_search_tool_result"):
        broken_off = {"type": kind, "name": "web_search", "input": {"query": "\ud83d"}, "content": ["\ud83d"]}
        data = json.dumps({"type": "content_block_start", "index": 0, "content_block": broken_off}).encode()
        assert seen(b"event: content_block_start\ndata: " + data + b"\n\n").size >= 0
        meter = JsonMeter()
        meter.read(json.dumps({"content": [broken_off], "usage": {}}).encode())
        assert meter.reading.seen.output_tokens >= 0


def test_thinking_that_is_not_shown_is_reckoned_by_its_seal():
    sealed = {"type": "signature_delta", "signature": "x" * 900}
    thinking = event(
        "content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}
    )
    seal = event("content_block_delta", index=0, delta=sealed)
    shown = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x" * 300})
    assert seen(thinking, seal).output_tokens == 360
    assert seen(thinking, shown, seal).output_tokens == 120


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"type": "server_tool_use", "name": "web_search"}, "web_search"),
        ({"type": "server_tool_use", "name": "web_fetch"}, "web_fetch"),
        ({"type": "server_tool_use", "name": "bash_code_execution"}, "code_execution"),
        ({"type": "server_tool_use", "name": "tool_search_tool_bm25"}, "tool_search"),
        ({"type": "server_tool_use", "name": "advisor"}, "advisor"),
        ({"type": "server_tool_use", "name": "of tomorrow"}, "mcp"),
        ({"type": "mcp_tool_use", "name": "ask"}, "mcp"),
        ({"type": "compaction", "content": "so far"}, "compaction"),
        ({"type": "fallback", "to": {"model": "claude-haiku-5-5"}}, "fallback"),
    ],
)
def test_every_block_that_makes_the_prompt_be_read_again_is_seen(content, kind):
    start = event("content_block_start", index=0, content_block=content)
    assert [use.kind for use in seen(*started(), start).uses] == [kind]
    report = event("message_delta", delta=END, usage={"input_tokens": 9, "output_tokens": 7})
    assert seen(*started(), start, report).unreported == []
    meter = JsonMeter()
    meter.read(message(content=[content], usage={}))
    assert [use.kind for use in meter.reading.seen.uses] == [kind]


TOOLS = [
    SEARCH,
    {"type": "code_execution_20260521", "name": "code_execution"},
    {"type": "advisor_20260301", "name": "advisor", "model": "claude-fable-5-1", "max_tokens": 700},
]


def reckoning(prompt=PROMPT, writes=None, **members):
    extras = schema.parse(json.dumps(ask(**members)).encode()).extras
    return Reckoning(prompt, 2000, extras, allowances.read(""), writes, "claude-fable-5-1")


uses_ = st.lists(
    st.builds(
        Use,
        st.sampled_from(["web_search", "code_execution", "mcp", "advisor", "compaction", "fallback"]),
        st.integers(0, 3000),
        st.integers(0, 100_000),
        st.sampled_from(["", MODEL]),
    ),
    max_size=8,
).map(lambda uses: sorted(uses, key=lambda use: use.output))


@given(uses_, st.integers(0, 3000), st.integers(0, 50_000), st.integers(0, 50_000), st.sampled_from([None, "5m", "1h"]))
def test_each_use_adds_to_what_was_used_and_nothing_is_written_twice(uses, written, plain, cached, writes):
    meter = StreamMeter()
    meter.reading.overlay({"input_tokens": plain, "cache_read_input_tokens": cached, "output_tokens": 0})
    reckoned = reckoning(tools=TOOLS, writes=writes)
    before = -1
    for count in range(len(uses) + 1):
        steps = reckoned.steps(meter.reading.iterations(), written, uses[:count])
        read = sum(step.counts.prompt_tokens for step in steps)
        assert read > before
        # Each use reads the prompt at least once more.
        assert read >= (count + 1) * (plain + cached)
        own = [step.counts.output_tokens for step in steps if step.kind != "advisor_message"]
        assert sum(own) == min(written, 2000)
        assert min(own) >= 0
        before = read


@needs_recordings
def test_of_no_recorded_stream_is_less_reckoned_than_it_came_to_when_cut_before_its_report():
    checked = 0
    for recording in streams():
        if recording.status != 200 or b"message_delta" not in recording.body:
            continue
        came_to, meter = used(recording), StreamMeter()
        meter.feed(recording.body[: recording.body.index(b"event: message_delta")])
        seen, reading = meter.reading.seen, meter.reading
        if not reading.usage.get("input_tokens"):
            continue
        request = schema.parse(json.dumps(recording.request).encode(), betas=None)
        reckoned = Reckoning(0, 10**6, request.extras, allowances.read(""), None, "")
        steps = reckoned.steps(reading.iterations(), seen.output_tokens + 100, seen.uses)
        read = sum(step.counts.prompt_tokens for step in steps)
        assert sum(step.counts.output_tokens for step in steps) >= came_to["output_tokens"], recording.name
        assert read >= came_to["input_tokens"] + came_to["cache_read_input_tokens"], recording.name
        checked += 1
    assert checked > 40
