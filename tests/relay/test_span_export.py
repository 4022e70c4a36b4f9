"""Spans on their way to a collector that is slow, away or full, and calls that don't notice it."""

from __future__ import annotations

import signal
import socket
import threading
from types import SimpleNamespace

import pytest

from messages_api.process import span_export
from messages_api.process.span_export import INTERNAL, MOST_WAITING, SpanExport, span
from messages_api.relay.traces import Traces
from tests.support.collector import TAKEN, Collector
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import message, post, rows, started

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def free_url():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_calls_go_on_without_a_collector_and_the_log_says_how_many_spans_were_dropped(alice, upstream):
    upstream.answer = whole(200, message())
    with started(otel_exporter_otlp_endpoint=free_url()) as web:
        for _ in range(3):
            assert post(web, alice.key).status_code == 200
        rows(3)
        web.signal(signal.SIGTERM)
        assert "12 spans were dropped: the collector can't be reached" in web.log.read_text()


def test_calls_do_not_wait_for_a_collector_that_never_answers(alice, upstream):
    upstream.answer = whole(200, message())
    silence = threading.Event()
    with Upstream() as silent:
        silent.answer = [silence]
        with started(otel_exporter_otlp_endpoint=silent.url) as web:
            assert post(web, alice.key).status_code == 200
            silent.wait_for(1)
            assert [post(web, alice.key).status_code for _ in range(5)] == [200] * 5
            rows(6)
            assert not silence.is_set()
        silence.set()


def deployment(url, ratio=1.0):
    return SimpleNamespace(
        otel_exporter_otlp_endpoint=url,
        otel_exporter_otlp_headers="",
        otel_service_name="bursar",
        otel_traces_sampler_arg=ratio,
        ca_bundle=None,
    )


def some(count):
    return [span(TRACE, f"{number + 1:016x}", "", "a", INTERNAL, (1, 2), {}) for number in range(count)]


async def test_what_does_not_fit_into_the_queue_is_dropped_and_logged_once(caplog):
    export = SpanExport(deployment(free_url()))
    export.put(some(MOST_WAITING + 5))
    export.log()
    export.put(some(2))
    export.log()
    assert (len(export.waiting), export.dropped) == (MOST_WAITING, 2)
    assert [record.getMessage() for record in caplog.records] == ["5 spans were dropped: too many of them wait"]
    export.waiting.clear()
    await export.close()


@pytest.mark.parametrize("status", sorted(span_export.AGAIN))
async def test_spans_wait_while_a_collector_asks_for_patience(status):
    with Upstream() as server:
        server.answer = whole(status, b"{}")
        export = SpanExport(deployment(server.url))
        export.put(some(3))
        with pytest.raises(span_export.Away, match=str(status)):
            await export.send_all()
        assert (len(export.waiting), export.dropped) == (3, 0)
        server.answer = TAKEN
        await export.close()
        assert len(Collector(server).all()) == 6  # refused, then taken
        assert not export.waiting


@pytest.mark.parametrize(
    ("answer", "dropped"),
    [
        (whole(400, b"no"), 3),
        (whole(200, b'{"partialSuccess":{"rejectedSpans":"2"}}'), 2),
        (whole(200, b'{"partialSuccess":{}}'), 0),
        (whole(200, b"not JSON"), 0),
    ],
)
async def test_spans_that_a_collector_refuses_are_dropped(answer, dropped):
    with Upstream() as server:
        server.answer = answer
        export = SpanExport(deployment(server.url))
        export.put(some(3))
        await export.send_all()
        assert (len(export.waiting), export.dropped) == (0, dropped)
        await export.close()


@pytest.mark.parametrize("ratio", [0, 0.25, 1])
async def test_a_part_of_the_calls_without_a_trace_is_sampled_and_callers_decide_for_theirs(ratio):
    traces = Traces(deployment(free_url(), ratio))
    sampled = [traces.begin([]).sampled for _ in range(2000)]
    # 0.25 of 2000 is 500, and eight standard deviations are 155.
    assert abs(sum(sampled) - 2000 * ratio) <= (155 if 0 < ratio < 1 else 0)
    for flags, recorded in (("00", False), ("01", True)):
        assert traces.begin([(b"traceparent", f"00-{TRACE}-{CALLER}-{flags}".encode())]).sampled is recorded
    await traces.export.close()
