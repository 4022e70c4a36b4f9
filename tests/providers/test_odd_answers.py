"""Providers that answer as none should: what comes is relayed as it is or refused in our words, and always settled."""

from __future__ import annotations

import json
import threading
from decimal import Decimal

import pytest

from messages_api.answer.metering import ITERATIONS
from tests.support.fake_provider import End, broken, head, pieces, whole
from tests.support.gateway import CLIENT, MODEL, ask, event, events, free_calls, message, post, refused, row, rows

STATUS_WITHOUT_MEANING = (300, 301, 304, 307, 399, 600, 999)


@pytest.mark.parametrize(
    "odd",
    [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"\\udc4d and \\ud83d", "\U0001f44b".encode()[:3]],
    ids=["no UTF-8", "half a character", "a raw surrogate", "half a pair", "a pair turned round", "a cut emoji"],
)
def test_json_with_a_broken_character_is_relayed_byte_for_byte_and_metered(web, upstream, alice, odd):
    body = message("What?").replace(b"What?", b"What" + odd)
    upstream.answer = whole(200, body)
    assert post(web, alice.key).content == body
    entry = row()
    assert (entry.input_tokens, entry.output_tokens, entry.estimated) == (11, 7, False)
    assert (entry.status, entry.stop_reason) == ("completed", "end_turn")


@pytest.mark.parametrize("odd", [b"\xff", b"\\ud83d"], ids=["no UTF-8", "half a pair"])
def test_a_stream_with_a_broken_character_is_relayed_byte_for_byte_and_metered(web, upstream, alice, odd):
    body = b"".join(events("What?")).replace(b"What?", b"What" + odd)
    body = body.replace(b'"end_turn"', b'"end' + odd + b'"')
    upstream.answer = pieces(200, [body])
    assert post(web, alice.key, ask(stream=True)).content == body
    entry = row()
    assert (entry.input_tokens, entry.output_tokens, entry.status) == (11, 7, "completed")


def test_a_status_that_says_nothing_is_a_502_and_settled(web, upstream, alice):
    for status in STATUS_WITHOUT_MEANING:
        body = b"" if status == 304 else message()
        upstream.answer = whole(status, body, ("location", "/elsewhere"))
        answer = post(web, alice.key)
        assert str(status) in refused(answer, 502, "api_error")
        assert "location" not in answer.headers
    entries = rows(len(STATUS_WITHOUT_MEANING))
    assert [entry.http_status for entry in entries] == list(STATUS_WITHOUT_MEANING)
    assert {(entry.status, entry.error_type) for entry in entries} == {("failed", "bad_status")}
    assert not any(entry.cost for entry in entries)


@pytest.mark.parametrize("body", [b"", b'{"id":', b"<html>", b"[]"])
def test_a_success_that_is_no_answer_is_relayed_and_failed(web, upstream, alice, body):
    upstream.answer = whole(200, body)
    answer = post(web, alice.key)
    assert (answer.status_code, answer.content) == (200, body)
    entry = row()
    assert (entry.status, entry.error_type, entry.estimated) == ("failed", "bad_answer", True)
    assert entry.cost > 0


def test_so_is_one_to_counting_which_costs_nothing(web_once, upstream, alice):
    upstream.answer = whole(200, b"<html>")
    body = {"model": MODEL, "messages": ask()["messages"]}
    assert post(web_once, alice.key, body, "/v1/messages/count_tokens").content == b"<html>"
    assert free_calls(alice.virtual_key, 1) == {("count_tokens", "failed"): 1}


def test_an_answer_without_content_is_relayed_and_estimated(web, upstream, alice):
    upstream.answer = [head(204, [(b"request-id", b"req_1")])]
    answer = post(web, alice.key)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    entry = row()
    assert (entry.status, entry.estimated) == ("completed", True)
    assert entry.cost > 0


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "TEXT/EVENT-STREAM; Charset=UTF-8", "text/event-stream"])
def test_a_stream_is_one_in_any_case(web, upstream, alice, kind):
    more = threading.Event()
    parts = events("Hello")
    upstream.answer = [*pieces(200, parts[:1], ("content-type", kind))[:-1], more, *pieces(200, parts[1:])[1:]]
    with CLIENT.stream(
        "POST", web.url + "/v1/messages", json=ask(stream=True), headers={"x-api-key": alice.key}
    ) as answer:
        assert answer.headers["content-type"] == kind
        chunks = answer.iter_raw()
        assert next(chunks) == parts[0]  # before its end is made
        more.set()
        assert b"".join(chunks) == b"".join(parts[1:])
    assert (row().output_tokens, row().estimated) == (7, False)


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("status", [429, 400, 529, 500])
def test_a_refusal_that_breaks_off_is_free(web, upstream, alice, status, end):
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}'
    upstream.answer = [whole(status, body)[0][:-20], end]
    refused(post(web, alice.key), 502, "api_error")
    entry = row()
    assert (entry.status, entry.http_status, entry.estimated) == ("failed", status, False)
    assert not entry.cost


@pytest.mark.parametrize("ending", ["in order", "broken off"])
def test_a_stream_that_begins_with_an_error_is_free(web, upstream, alice, ending):
    part = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    upstream.answer = pieces(200, [part]) if ending == "in order" else broken([part])
    assert post(web, alice.key, ask(stream=True)).content == part
    entry = row()
    assert (entry.status, entry.error_type) == ("failed", "overloaded_error")
    assert (entry.cost, entry.estimated) == (Decimal(0), False)


MOST = (1 << 53) - 1


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ({"input_tokens": MOST, "output_tokens": MOST}, 5000),
        ({"input_tokens": 1 << 53, "output_tokens": 1 << 70}, 3),
        ({"input_tokens": -5, "output_tokens": "many"}, 3),
        ({"input_tokens": True, "output_tokens": None}, 3),
        ({"input_tokens": 1e300, "output_tokens": [1]}, 3),
    ],
    ids=["as many as can be", "too many", "negative", "no numbers", "beyond a float"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_absurd_counts_are_estimated(web, upstream, alice, step, count, stream):
    usage = {"input_tokens": 3, "output_tokens": 3, "iterations": [{"type": "message", **step}] * count}
    body = message(usage=usage)
    if stream:
        start, *_ = events("x")
        parts = [start, event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage), event("message_stop")]
        body, upstream.answer = b"".join(parts), pieces(200, parts)
    else:
        upstream.answer = whole(200, body)
    assert post(web, alice.key, ask(stream=stream)).content == body
    entry = row()
    assert entry.status == "completed"
    assert entry.estimated
    assert 0 < entry.cost < 1
    assert len(entry.iterations) <= min(count, ITERATIONS)


@pytest.mark.parametrize(
    "usage",
    [None, [], "much", {"input_tokens": {}}, {"iterations": {"a": 1}}, {"iterations": [None, 7, []]}],
    ids=repr,
)
def test_a_usage_of_another_shape_is_settled(web, upstream, alice, usage):
    body = message(usage=usage)
    upstream.answer = whole(200, body)
    assert post(web, alice.key).content == body
    assert row().status == "completed"


def test_a_body_that_stalls_after_its_headers_is_a_504_with_a_row(start_web, served, upstream, alice):
    web = start_web(upstream_between_bytes_seconds=0.6)
    start = whole(200, message())[0]
    for sent in (start[: start.index(b"{")], start[:-10]):
        upstream.answer = [sent, threading.Event()]
        refused(post(web, alice.key), 504, "timeout_error")
        assert upstream.last.gone.wait(20)
    for entry in rows(2):
        assert (entry.status, entry.error_type, entry.http_status) == ("failed", "no_answer_in_time", 200)
        assert entry.estimated
        assert entry.cost > 0


def test_a_body_that_comes_slowly_but_steadily_is_waited_for(start_web, served, upstream, alice):
    web = start_web(upstream_between_bytes_seconds=0.6)
    body = message()
    start = whole(200, body)[0]
    at = len(start) - len(body)
    upstream.answer = [
        start[:at],
        *(step for byte in range(at, len(start), 60) for step in (0.3, start[byte : byte + 60])),
    ]
    assert post(web, alice.key).content == body
    assert json.loads(body)["usage"]["output_tokens"] == row().output_tokens


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": "5", "output_tokens": "7"},
        {"input_tokens": 5},
        {"output_tokens": 5},
        {"input_tokens": 5, "output_tokens": None},
        {"input_tokens": -5, "output_tokens": 5},
        {"input_tokens": 5, "output_tokens": 1 << 63},
        {"input_tokens": 5, "output_tokens": 5, "cache_read_input_tokens": "many"},
    ],
    ids=repr,
)
def test_a_usage_that_cannot_be_billed_as_reported_is_an_estimate_and_never_free(web, upstream, alice, usage):
    upstream.answer = whole(200, message(usage=usage))
    assert post(web, alice.key, ask()).status_code == 200
    entry = row()
    assert (entry.status, entry.estimated) == ("completed", True)
    assert entry.cost > 0


@pytest.mark.parametrize("usage", [None, {}, {"output_tokens": "9"}, {"output_tokens": -3}], ids=repr)
def test_a_stream_whose_last_usage_is_missing_is_an_estimate(web, upstream, alice, usage):
    start, *_ = events("x")
    parts = [start, event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage), event("message_stop")]
    upstream.answer = pieces(200, parts)
    assert post(web, alice.key, ask(stream=True)).content == b"".join(parts)
    assert (row().status, row().estimated) == ("completed", True)
