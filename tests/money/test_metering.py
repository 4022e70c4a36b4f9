"""Usage is read along the bytes: the result is the same at any cuts, nothing is raised, and cut events are mended."""

from __future__ import annotations

import itertools
import json

import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given, settings
from hypothesis import strategies as st

from messages_api.answer.events import StreamMeter, complete_character
from messages_api.answer.metering import JsonMeter, Reading
from tests.support.gateway import event, events
from tests.support.recordings import COLUMNS, needs_recordings, recordings, streams, used
from usage.tokens import TokenCounts

STREAM = b"".join(events("Grüße", "日本 👋", '\\"}\n'))


def read(*parts):
    meter = StreamMeter()
    for part in parts:
        meter.feed(part)
    meter.finish()
    return meter


def told(meter):
    return meter.reading, meter.started, meter.stopped, meter.failed, meter.thought


def cut_at(body, places):
    places = sorted({0, len(body), *places})
    return [body[start:end] for start, end in itertools.pairwise(places)]


def total(steps):
    return sum((step.counts for step in steps), TokenCounts())


def hour_writes(recording):
    return '"ttl": "1h"' in json.dumps(recording.request)


@needs_recordings
def test_it_reads_of_every_recording_what_was_used():
    for recording in recordings():
        if recording.status != 200:
            continue
        if recording.streams:
            reading = read(recording.body).reading
        else:
            meter = JsonMeter()
            assert meter.read(recording.body)
            reading = meter.reading
        counts = total(reading.iterations(hour_writes(recording)))
        assert {name: getattr(counts, name) for name in COLUMNS} == used(recording), recording.name
        assert reading.stop_reason, recording.name


@needs_recordings
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_recording_reads_the_same_at_any_cuts(data):
    recording = data.draw(st.sampled_from(streams()))
    places = data.draw(st.lists(st.integers(0, len(recording.body)), max_size=30))
    assert told(read(*cut_at(recording.body, places))) == told(read(recording.body))


@given(st.lists(st.integers(0, len(STREAM)), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_reads_the_same_at_any_cuts_and_line_ends(places, line_end):
    body = STREAM.replace(b"\n", line_end)
    assert told(read(*cut_at(body, places))) == told(read(STREAM))


def test_a_stream_reads_the_same_a_byte_at_a_time():
    for line_end in (b"\n", b"\r\n"):
        body = STREAM.replace(b"\n", line_end)
        assert told(read(*(body[at : at + 1] for at in range(len(body))))) == told(read(body))


def test_it_is_at_a_boundary_after_each_event_and_nowhere_else():
    meter, ends, at = StreamMeter(), set(), 0
    for part in events("Grüße", "x"):
        at += len(part)
        ends.add(at)
    for number in range(len(STREAM[:at])):
        meter.feed(b"".join(events("Grüße", "x"))[number : number + 1])
        assert meter.at_boundary == (number + 1 in ends)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_that_is_cut_anywhere_is_mended_to_events_that_clients_read(line_end):
    body = STREAM.replace(b"\n", line_end)
    error = b'event: error\ndata: {"type": "error"}\n\n'
    intact = [(one.event, one.data) for one in SSEDecoder().iter_bytes(iter([body]))]
    for offset in range(len(body) + 1):
        meter = StreamMeter()
        meter.feed(body[:offset])
        sent = body[:offset] + meter.mend() + error
        sent.decode()
        found = [(one.event, one.data) for one in SSEDecoder().iter_bytes(iter([sent]))]
        assert found[-1] == ("error", '{"type": "error"}'), offset
        whole = [pair for pair in found[:-1] if pair[0] != "ping"]
        assert whole == [pair for pair in intact if pair[0] != "ping"][: len(whole)]


@given(st.text(min_size=1), st.data())
def test_a_cut_character_is_completed(text, data):
    encoded = text.encode("utf-8", "replace")
    part = encoded[: data.draw(st.integers(1, len(encoded)))]
    (part + complete_character(part)).decode()


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_garbage_never_raises(parts):
    meter = read(*parts)
    meter.mend()
    meter.reading.iterations()
    JsonMeter().read(b"".join(parts))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*COLUMNS, "x"]), inner, max_size=3),
    max_leaves=8,
)
usages = st.dictionaries(
    st.sampled_from(
        [
            "input_tokens",
            "output_tokens",
            "cache_creation",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "iterations",
            "server_tool_use",
            "output_tokens_details",
            "service_tier",
            "speed",
            "inference_geo",
        ]
    ),
    json_values,
)


@given(usages, st.booleans())
def test_any_usage_reads_as_counts_that_are_not_negative(usage, hour):
    body = json.dumps({"model": "m", "usage": usage}).encode()
    meter = JsonMeter()
    meter.read(body)
    counts = total(meter.reading.iterations(hour))
    assert all(getattr(counts, name) >= 0 for name in COLUMNS)
    assert isinstance(meter.reading.service_tier + meter.reading.speed + meter.reading.inference_geo, str)
    stream = read(event("message_start", message={"usage": usage, "model": 7}), event("message_delta", usage=usage))
    assert all(getattr(total(stream.reading.iterations(hour)), name) >= 0 for name in COLUMNS)


def reading_of(start, *deltas):
    reading = Reading()
    for usage in (start, *deltas):
        reading.overlay(usage)
    return reading


def test_later_counts_replace_earlier_ones_and_null_replaces_nothing():
    reading = reading_of(
        {"input_tokens": 2050, "output_tokens": 1, "service_tier": "standard", "inference_geo": "us"},
        {"input_tokens": None, "output_tokens": 10},
        {"input_tokens": 31772, "output_tokens": 15, "service_tier": None},
        None,
    )
    (step,) = reading.iterations()
    assert (step.counts.input_tokens, step.counts.output_tokens) == (31772, 15)
    assert (reading.service_tier, reading.inference_geo) == ("standard", "us")


def test_iterations_are_the_bill_and_the_top_level_is_not():
    reading = reading_of(
        {
            "input_tokens": 220,
            "output_tokens": 8,
            "server_tool_use": {"web_search_requests": 3},
            "output_tokens_details": {"thinking_tokens": 5},
            "iterations": [
                {"type": "compaction", "input_tokens": 55196, "output_tokens": 125},
                {"type": "message", "model": "claude-opus-5", "input_tokens": 220, "output_tokens": 8},
            ],
        }
    )
    compaction, own = reading.iterations()
    assert (compaction.kind, compaction.model, own.model) == ("compaction", "", "claude-opus-5")
    assert (compaction.counts.input_tokens, own.counts.input_tokens) == (55196, 220)
    assert (compaction.counts.web_search_requests, own.counts.web_search_requests) == (0, 3)
    assert (compaction.counts.thinking_tokens, own.counts.thinking_tokens) == (0, 5)


def test_no_iterations_at_all_leave_the_top_level():
    (step,) = reading_of({"input_tokens": 7, "iterations": []}).iterations()
    assert step.counts.input_tokens == 7


@pytest.mark.parametrize(
    ("usage", "hour", "expected"),
    [
        ({"cache_creation_input_tokens": 50}, False, (50, 0)),
        ({"cache_creation_input_tokens": 50}, True, (0, 50)),
        ({"cache_creation_input_tokens": 50, "cache_creation": {}}, True, (0, 50)),
        ({"cache_creation_input_tokens": 50, "cache_creation": None}, True, (0, 50)),
        ({"cache_creation_input_tokens": 50, "cache_creation": {"ephemeral_5m_input_tokens": 50}}, True, (50, 0)),
        ({"cache_creation_input_tokens": 50, "cache_creation": {"ephemeral_5m_input_tokens": 50}}, False, (50, 0)),
        (
            {
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
            },
            False,
            (20, 30),
        ),
        (
            {"cache_creation_input_tokens": 3337, "cache_creation": {"ephemeral_5m_input_tokens": 3068}},
            False,
            (3337, 0),
        ),
        ({"cache_creation_input_tokens": 3337, "cache_creation": {"ephemeral_1h_input_tokens": 3068}}, True, (0, 3337)),
        ({"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 50}}, False, (50, 0)),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 5}}, False, (0, 5)),
    ],
)
def test_cache_writes_are_split_and_what_is_left_over_is_what_the_request_asked_for(usage, hour, expected):
    (step,) = reading_of(usage).iterations(hour)
    assert (step.counts.cache_creation_5m_input_tokens, step.counts.cache_creation_1h_input_tokens) == expected


def test_delivered_text_is_reckoned_high_enough_for_chinese():
    meter = read(*events("日本語の文章" * 100))
    assert meter.reading.seen.output_tokens >= 600


def test_a_signature_is_no_output_and_thinking_is():
    meter = StreamMeter()
    meter.feed(event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x" * 900}))
    assert meter.reading.seen.size == 0
    meter.feed(event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x" * 120}))
    assert 30 <= meter.reading.seen.output_tokens <= 60


def test_a_large_tool_result_in_one_event_is_passed_over_without_being_read():
    result = event("content_block_start", index=0, content_block={"type": "web_search_tool_result", "x": "y" * 100_000})
    parts = events("Hello")
    meter = read(parts[0], result, *parts[1:])
    assert (meter.stopped, meter.reading.usage["output_tokens"]) == (True, 7)
