"""Traces: the spans of a call at a collector, over real sockets, and calls that don't notice what a collector does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from messages_api.server import trace_context
from tests.support.collector import TAKEN, Collector
from tests.support.fake_provider import End, Upstream, pieces, whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    PROVIDER_SECRET,
    ROOT,
    ask,
    credentials,
    events,
    message,
    post,
    row,
    rows,
    wait_until,
)
from tests.support.two_providers import alice as two_keyed
from tests.support.two_providers import failing
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second

alice_of_two = two_keyed
CALLER = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector():
    """A collector that takes everything."""
    with Upstream() as server:
        server.answer = TAKEN
        yield Collector(server)


@pytest.fixture
def traced(served, start_web, collector):
    """A gateway that sends traces there."""
    return start_web(
        log_format="json",
        otel_exporter_otlp_endpoint=collector.server.url,
        otel_exporter_otlp_headers="x-tenant=of%20Alice",
        otel_service_name="gateway of tests",
    )


def call(web, key, trace_id, body=None, flags="01", path="/v1/messages", **headers):
    """A call of a client that has a span of its own."""
    given = credentials(key) | {"traceparent": f"00-{trace_id}-{CALLER}-{flags}"} | headers
    return CLIENT.post(web.url + path, json=body or ask(), headers=given)


def about(span):
    """A span's attributes, as Python values."""
    read = {"stringValue": str, "intValue": int, "doubleValue": float, "boolValue": bool}
    found = {}
    for each in span["attributes"]:
        ((kind, value),) = each["value"].items()
        listed = kind == "arrayValue"
        found[each["key"]] = [one["stringValue"] for one in value["values"]] if listed else read[kind](value)
    return found


def named(spans, name):
    (found,) = [span for span in spans if span["name"] == name]
    return found


def new_trace():
    return trace_context.new_trace_id()


def test_a_call_is_a_span_in_its_callers_trace_with_its_steps_below(traced, collector, alice, upstream):
    trace_id = new_trace()
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
    }
    upstream.answer = whole(200, message("Words for Alice alone", usage=usage), ("request-id", "req_theirs"))
    answer = call(traced, alice.key, trace_id, ask("A prompt of Alice alone"))
    entry, spans = row(), collector.spans(trace_id, 4)
    whole_call, attempt = named(spans, "POST /v1/messages"), named(spans, f"chat {MODEL}")
    admission, settlement = named(spans, "admission"), named(spans, "settlement")
    assert whole_call["parentSpanId"] == CALLER
    assert {each["parentSpanId"] for each in (attempt, admission, settlement)} == {whole_call["spanId"]}
    assert len({each["spanId"] for each in spans}) == 4
    assert (whole_call["kind"], attempt["kind"], admission["kind"], settlement["kind"]) == (2, 3, 1, 1)
    start, asked, admitted, sent, done, ended = (
        int(moment)
        for moment in (
            whole_call["startTimeUnixNano"],
            admission["startTimeUnixNano"],
            admission["endTimeUnixNano"],
            attempt["startTimeUnixNano"],
            attempt["endTimeUnixNano"],
            whole_call["endTimeUnixNano"],
        )
    )
    assert start <= asked < admitted <= sent < done <= ended
    # The provider's own spans would be below the attempt.
    assert upstream.last.values("traceparent") == [f"00-{trace_id}-{attempt['spanId']}-01"]
    said = about(attempt)
    assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "anthropic")
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == (MODEL, MODEL)
    assert (said["gen_ai.request.max_tokens"], said["gen_ai.request.stream"]) == (64, False)
    # The conventions count what came from and went to the cache as input, too.
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (131, 7)
    assert said["gen_ai.usage.cache_read.input_tokens"] == 100
    assert said["gen_ai.usage.cache_creation.input_tokens"] == 20
    assert said["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert said["gen_ai.response.time_to_first_chunk"] > 0
    assert (said["http.response.status_code"], said["bursar.provider_request_id"]) == (200, "req_theirs")
    assert f"{said['server.address']}:{said['server.port']}" == upstream.url.removeprefix("http://")
    said = about(whole_call)
    assert said["bursar.request_id"] == answer.headers["x-bf-request-id"]
    assert (said["bursar.virtual_key.id"], said["bursar.virtual_key.name"]) == (alice.virtual_key.id, "alice")
    assert (said["bursar.status"], said["bursar.cost_usd"]) == ("completed", pytest.approx(float(entry.cost)))
    assert not {name for name in said if name.startswith("gen_ai.usage")}
    assert not any("status" in each for each in spans)


def test_no_span_has_a_key_a_prompt_or_an_answer(traced, collector, alice, upstream):
    trace_id = new_trace()
    upstream.answer = whole(200, message("Words for Alice alone"))
    call(traced, alice.key, trace_id, ask("A prompt of Alice alone"))
    collector.spans(trace_id, 4)
    for seen in list(collector.server.seen):
        for secret in (alice.key, alice.key[:12], PROVIDER_SECRET, "Words for Alice", "A prompt of Alice"):
            assert secret.encode() not in seen.body


def test_the_collector_gets_otlp_with_the_deployments_headers_and_name(traced, collector, alice, upstream):
    trace_id = new_trace()
    upstream.answer = whole(200, message())
    call(traced, alice.key, trace_id)
    collector.spans(trace_id, 4)
    seen = collector.server.last
    assert (seen.method, seen.target, seen.values("content-type")) == ("POST", "/v1/traces", ["application/json"])
    assert seen.values("x-tenant") == ["of Alice"]
    (resource,) = json.loads(seen.body)["resourceSpans"]
    assert about(resource["resource"])["service.name"] == "gateway of tests"


def test_an_attempt_that_failed_and_its_fallback_are_spans_beside_each_other(
    traced, collector, alice_of_two, first, second
):
    trace_id = new_trace()
    first.answer = failing(529)
    assert call(traced, alice_of_two.key, trace_id).status_code == 200
    spans = collector.spans(trace_id, 5)
    whole_call = named(spans, "POST /v1/messages")
    one, other = sorted(
        (each for each in spans if each["name"] == f"chat {MODEL}"), key=lambda each: int(each["startTimeUnixNano"])
    )
    assert one["parentSpanId"] == other["parentSpanId"] == whole_call["spanId"]
    assert int(one["endTimeUnixNano"]) <= int(other["startTimeUnixNano"])
    assert (about(one)["bursar.provider_key.name"], about(one)["error.type"]) == ("first", "overloaded_error")
    assert (about(one)["http.response.status_code"], one["status"]) == (529, {"code": 2})
    assert "gen_ai.usage.output_tokens" not in about(one)
    assert (about(other)["bursar.provider_key.name"], about(other)["http.request.resend_count"]) == ("second", 1)
    assert about(other)["gen_ai.usage.output_tokens"] == 7
    assert "status" not in other
    assert about(whole_call)["bursar.attempts"] == 2
    assert "status" not in whole_call
    for server, attempt in ((first, one), (second, other)):
        assert server.last.values("traceparent") == [f"00-{trace_id}-{attempt['spanId']}-01"]


@pytest.mark.parametrize(
    ("answer", "ended", "status", "kind"),
    [
        ([End.RESET], "failed", None, "no_answer"),
        (failing(500), "refused_by_provider", 500, "overloaded_error"),
    ],
)
def test_a_call_that_its_provider_fails_is_a_failed_span(
    traced, collector, alice, upstream, answer, ended, status, kind
):
    trace_id = new_trace()
    upstream.answer = answer
    assert call(traced, alice.key, trace_id, **{"x-stainless-timeout": "1"}).status_code >= 500
    spans = wait_until(lambda: [each for each in collector.all() if each["traceId"] == trace_id])
    whole_call = named(spans, "POST /v1/messages")
    assert (whole_call["status"], about(whole_call)["bursar.status"]) == ({"code": 2}, ended)
    assert about(whole_call)["error.type"] == kind
    for attempt in (each for each in spans if each["name"] == f"chat {MODEL}"):
        assert (attempt["status"], about(attempt)["error.type"]) == ({"code": 2}, kind)
        assert about(attempt).get("http.response.status_code") == status


def test_a_mistake_of_the_callers_is_an_error_of_the_attempt_alone(traced, collector, alice, upstream):
    trace_id = new_trace()
    upstream.answer = failing(400, "invalid_request_error")
    call(traced, alice.key, trace_id)
    spans = collector.spans(trace_id, 4)
    whole_call, attempt = named(spans, "POST /v1/messages"), named(spans, f"chat {MODEL}")
    assert "status" not in whole_call
    assert about(whole_call)["bursar.status"] == "refused_by_provider"
    assert (attempt["status"], about(attempt)["error.type"]) == ({"code": 2}, "invalid_request_error")


def test_a_stream_is_a_span_until_its_end(traced, collector, alice, upstream):
    trace_id, go_on = new_trace(), threading.Event()
    parts = events("Hello", "you")
    answer = pieces(200, parts)
    upstream.answer = [*answer[:3], go_on, *answer[3:]]
    given = credentials(alice.key) | {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    with CLIENT.stream("POST", traced.url + "/v1/messages", json=ask(stream=True), headers=given) as answered:
        chunks = answered.iter_raw()
        read = next(chunks)
        assert not [each for each in collector.all() if each["traceId"] == trace_id]
        go_on.set()
        assert (read + b"".join(chunks)).endswith(parts[-1])
    attempt = named(collector.spans(trace_id, 4), f"chat {MODEL}")
    said = about(attempt)
    assert (said["gen_ai.request.stream"], said["gen_ai.usage.output_tokens"]) == (True, 7)
    took = (int(attempt["endTimeUnixNano"]) - int(attempt["startTimeUnixNano"])) / 1e9
    assert 0 < said["gen_ai.response.time_to_first_chunk"] < took


def test_a_client_that_hangs_up_is_no_failure_of_the_gateway(traced, collector, alice, upstream):
    trace_id = new_trace()
    answer = pieces(200, events("Hello", "you"))
    upstream.answer = [*answer[:4], threading.Event()]
    given = credentials(alice.key) | {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    with CLIENT.stream("POST", traced.url + "/v1/messages", json=ask(stream=True), headers=given) as answered:
        next(answered.iter_raw())
    assert row().status == "client_disconnected"
    spans = collector.spans(trace_id, 4)
    whole_call = named(spans, "POST /v1/messages")
    assert about(whole_call)["bursar.status"] == "client_disconnected"
    assert about(whole_call)["bursar.estimated"] is True
    assert "status" not in whole_call


def test_a_free_call_has_no_settlement(traced, collector, alice, upstream):
    trace_id = new_trace()
    upstream.answer = whole(200, b'{"input_tokens": 3}')
    assert call(traced, alice.key, trace_id, path="/v1/messages/count_tokens").status_code == 200
    spans = collector.spans(trace_id, 3)
    assert {each["name"] for each in spans} == {
        "POST /v1/messages/count_tokens",
        "admission",
        f"count_tokens {MODEL}",
    }


def test_a_trace_that_its_caller_does_not_record_is_not_exported(traced, collector, alice, upstream):
    silent, heard = new_trace(), new_trace()
    upstream.answer = whole(200, message())
    call(traced, alice.key, silent, flags="00")
    (passed,) = upstream.last.values("traceparent")
    assert passed.startswith(f"00-{silent}-")
    assert passed.endswith("-00")
    assert CALLER not in passed
    rows(1)
    call(traced, alice.key, heard)
    collector.spans(heard, 4)  # they came after the others would have
    assert silent not in {each["traceId"] for each in collector.all()}


def test_a_call_without_a_trace_begins_one(traced, collector, alice, upstream):
    upstream.answer = whole(200, message())
    post(traced, alice.key)
    (passed,) = upstream.last.values("traceparent")
    _, trace_id, attempt_id, flags = passed.split("-")
    spans = collector.spans(trace_id, 4)
    assert flags == "01"
    assert "parentSpanId" not in named(spans, "POST /v1/messages")
    assert named(spans, f"chat {MODEL}")["spanId"] == attempt_id


TRACE = "0af7651916cd43dd8448eb211c80319c"
WRONG = {
    "nothing": "",
    "an unknown form": "00-1-2-01",
    "capitals": f"00-{TRACE.upper()}-{CALLER}-01",
    "no trace": f"00-{'0' * 32}-{CALLER}-01",
    "no parent": f"00-{TRACE}-{'0' * 16}-01",
    "the version that never is": f"ff-{TRACE}-{CALLER}-01",
    "more than version 00 has": f"00-{TRACE}-{CALLER}-01-more",
    "a line of its own": f'00-{TRACE}-{CALLER}-01","level":"ERROR',
    "an escape": f"00-{TRACE}-{CALLER}-01\x1b[2J",
    "other digits": f"00-{TRACE}-{CALLER}-0\xb2",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_traceparent_that_is_not_valid_is_not_taken_over(kind):
    assert trace_context.parent([(b"traceparent", WRONG[kind].encode("latin-1"))]) is None


def test_two_traceparents_are_none():
    given = (b"traceparent", f"00-{TRACE}-{CALLER}-01".encode())
    assert trace_context.parent([given]) is not None
    assert trace_context.parent([given, given]) is None


def test_a_later_version_may_say_more():
    given = [(b"traceparent", f"01-{TRACE}-{CALLER}-03-more".encode())]
    assert trace_context.parent(given) == (TRACE, CALLER, True)


def test_words_in_a_traceparent_reach_neither_log_nor_collector_nor_provider(traced, collector, alice, upstream):
    forged = f'00-{TRACE}-{CALLER}-01","level":"FORGED'
    upstream.answer = whole(200, message())
    before = traced.log.stat().st_size
    given = credentials(alice.key) | {"traceparent": forged, "tracestate": "theirs=1"}
    assert CLIENT.post(traced.url + "/v1/messages", json=ask(), headers=given).status_code == 200
    (passed,) = upstream.last.values("traceparent")
    trace_id = passed.split("-")[1]
    assert trace_id != TRACE
    assert upstream.last.values("tracestate") == []
    spans = collector.spans(trace_id, 4)
    assert b"FORGED" not in b"".join(seen.body for seen in list(collector.server.seen))
    written = wait_until(lambda: traced.log.read_bytes()[before:])
    assert b"FORGED" not in written
    (line,) = [json.loads(each) for each in written.splitlines() if b'"message":"call"' in each]
    assert line["trace_id"] == trace_id == spans[0]["traceId"]


def test_a_valid_trace_keeps_its_state(traced, alice, upstream):
    upstream.answer = whole(200, message())
    call(traced, alice.key, new_trace(), tracestate="theirs=1")
    assert upstream.last.values("tracestate") == ["theirs=1"]


# Without a collector

LOADED = """
import sys
from django.conf import settings
from gateway_project import asgi
from messages_api.relay import traces
asgi.handler.load_views()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "google", "grpc"}))
print(traces.of(settings.CONFIGURATION))
"""


def test_a_web_process_without_a_collector_has_no_traces_and_loads_nothing_for_them(tmp_path):
    (tmp_path / "static").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT,
        env=os.environ | {"VAR_DIR": str(tmp_path), "ROLES": "api"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "[]\nNone\n"


def test_a_gateway_without_a_collector_passes_a_callers_trace_as_it_is(web, alice, upstream):
    upstream.answer = whole(200, message())
    call(web, alice.key, TRACE, tracestate="theirs=1")
    assert upstream.last.values("traceparent") == [f"00-{TRACE}-{CALLER}-01"]
    post(web, alice.key)
    assert upstream.last.values("traceparent") == []
