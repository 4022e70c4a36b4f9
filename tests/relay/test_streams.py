"""Streams while they run: sent at once, kept alive, never cut off silently, and paid for if the client leaves."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from anthropic._streaming import SSEDecoder

from tests.support.fake_provider import End, broken, chunk, pieces, whole
from tests.support.gateway import CLIENT, ask, credentials, event, events, message, post, refused, row, rows

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@contextlib.contextmanager
def streaming(web, key, **members):
    body = json.dumps(ask(stream=True, **members)).encode()
    with CLIENT.stream("POST", web.url + "/v1/messages", content=body, headers=credentials(key)) as answer:
        yield answer, answer.iter_raw()


def decode(body):
    """The events as Anthropic's SDK reads them; every one but a ping must have JSON for data."""
    found = [(one.event, one.data) for one in SSEDecoder().iter_bytes(iter([body]))]
    return [(kind, json.loads(data) if kind != "ping" else None) for kind, data in found]


@pytest.mark.wire(7)
def test_the_first_byte_arrives_before_the_last_one_is_made(web, upstream, alice):
    more = threading.Event()
    first, *rest = pieces(200, parts := events("one", "two"))[1:]
    upstream.answer = [pieces(200, [])[0], first, more, *rest]
    with streaming(web, alice.key) as (answer, chunks):
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert next(chunks) == parts[0]
        assert not more.is_set()
        more.set()
        assert b"".join(chunks) == b"".join(parts[1:])
    assert row().time_to_first_byte_ms is not None


def test_every_event_arrives_by_itself(web, upstream, alice):
    turns = [threading.Event() for _ in range(8)]
    parts = events("a", "b", "c")
    upstream.answer = [pieces(200, [])[0]]
    for part, turn in zip(parts, turns, strict=True):
        upstream.answer += [chunk(part), turn]
    upstream.answer += [b"0\r\n\r\n"]
    with streaming(web, alice.key) as (_, chunks):
        for part, turn in zip(parts, turns, strict=True):
            assert next(chunks) == part
            turn.set()


@pytest.mark.wire(8)
def test_a_silent_provider_is_bridged_by_pings_between_events(start_web, served, upstream, alice):
    web = start_web(ping_seconds=0.4)
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], 1.4, *pieces(200, parts[3:])[1:]]
    answer = post(web, alice.key, ask(stream=True))
    start, end = b"".join(parts[:3]), b"".join(parts[3:])
    assert answer.content.startswith(start)
    assert answer.content.endswith(end)
    pings = answer.content[len(start) : len(answer.content) - len(end)]
    assert pings == PING * (len(pings) // len(PING))
    assert 2 <= len(pings) // len(PING) <= 4
    assert row().status == "completed"


def test_a_silence_within_an_event_is_left_alone(start_web, served, upstream, alice):
    web = start_web(ping_seconds=0.4)
    body = b"".join(events("Grüße"))
    at = body.index("ü".encode()) + 1
    upstream.answer = [*pieces(200, [body[:at]])[:-1], 1.2, *pieces(200, [body[at:]])[1:]]
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body


def test_there_is_no_ping_before_the_providers_headers(start_web, served, upstream, alice):
    web = start_web(ping_seconds=0.4)
    upstream.answer = [1.2, *whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')]
    answer = post(web, alice.key, ask(stream=True))
    assert answer.status_code == 529


def test_a_slow_client_is_no_silent_provider(start_web, served, upstream, alice):
    web = start_web(ping_seconds=0.4)
    parts = events(*("x" * 100_000 for _ in range(100)))
    upstream.answer = pieces(200, parts)
    got = []
    with streaming(web, alice.key) as (_, chunks):
        got.append(next(chunks))
        time.sleep(1.2)
        got.extend(chunks)
    assert b"".join(got) == b"".join(parts)


def check_mended(body, sent, whole_body):
    """What a client got of a stream that broke off: all that came, and an error that it understands."""
    if b"event: message_stop" in sent and sent.rstrip() == whole_body.rstrip():
        return
    assert body.startswith(sent)
    found = decode(body)
    kind, data = found[-1]
    assert kind == "error"
    assert data["type"] == "error"
    assert data["error"]["type"] == "api_error"
    assert data["request_id"].startswith("req_bf_")
    intact = [pair for pair in found if pair[0] not in ("ping", "error")]
    assert intact == [pair for pair in decode(whole_body) if pair[0] != "ping"][: len(intact)]


def break_at(body, offset):
    return broken([body[:offset]] if offset else [], End.RESET if offset % 2 else End.CLOSE)


def read_until_broken(web, key, offset):
    headers = credentials(key) | {"anthropic-offset": str(offset)}
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(stream=True), headers=headers)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.wire(9)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_provider_that_dies_at_any_byte_leaves_events_that_end_in_an_error(web, upstream, alice, line_end):
    body = b"".join(events("Grüße \U0001f44b 日本", '\\ü"}'[:3]))
    body = body.replace(b"\n", line_end)
    offsets = range(0, len(body), 1 if line_end == b"\n" else 3)
    upstream.answer = lambda seen: break_at(body, int(seen.values("anthropic-offset")[0]))
    with ThreadPoolExecutor(8) as pool:
        for offset, got in pool.map(lambda offset: (offset, read_until_broken(web, alice.key, offset)), offsets):
            # A reset may throw away what was on its way.
            arrived = next(at for at in range(offset, -1, -1) if got.startswith(body[:at]))
            assert arrived == offset or offset % 2
            check_mended(got, body[:arrived], body)
    ended = rows(len(offsets), seconds=20)
    assert {entry.status for entry in ended} <= {"failed", "completed"}
    assert all(entry.estimated and entry.cost > 0 for entry in ended if entry.status == "failed")


def test_a_stream_that_ends_in_order_but_too_early_ends_in_an_error(web, upstream, alice):
    for count in range(1, 5):
        upstream.answer = pieces(200, events("Hello")[:count])
        answer = post(web, alice.key, ask(stream=True))
        check_mended(answer.content, b"".join(events("Hello")[:count]), b"".join(events("Hello")))
    assert {entry.status for entry in rows(4)} == {"failed"}


def test_an_error_of_the_providers_own_is_relayed_and_nothing_is_added(web, upstream, alice):
    parts = [*events("Hello")[:3], event("error", error={"type": "overloaded_error", "message": "Overloaded"})]
    upstream.answer = pieces(200, parts)
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == b"".join(parts)
    entry = row()
    assert (entry.status, entry.error_type, entry.estimated) == ("failed", "overloaded_error", True)


def test_a_stream_in_crlf_is_relayed_and_counted(web, upstream, alice):
    body = b"".join(events("Hello")).replace(b"\n", b"\r\n")
    upstream.answer = pieces(200, [body[at : at + 7] for at in range(0, len(body), 7)])
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body
    assert (row().input_tokens, row().output_tokens, row().status) == (11, 7, "completed")


def test_a_missing_blank_line_at_the_end_is_relayed_as_it_is(web, upstream, alice):
    body = b"".join(events("Hello"))[:-1]
    upstream.answer = pieces(200, [body])
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body
    assert (row().output_tokens, row().status, row().estimated) == (7, "completed", False)


def test_comments_and_unknown_events_are_relayed(web, upstream, alice):
    first, *rest = events("Hello")
    body = b": a comment\n\n" + first + b"id: 7\nretry: 10\nevent: brand_new\ndata: not JSON\n\n" + b"".join(rest)
    upstream.answer = pieces(200, [body])
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body
    assert row().status == "completed"


def test_a_provider_that_dies_before_its_headers_is_a_502(web, upstream, alice):
    for end in End:
        upstream.answer = [end]
        refused(post(web, alice.key, ask(stream=True)), 502, "api_error")
        upstream.answer = [b"HTTP/1.1 200 OK\r\ncontent-ty", end]
        refused(post(web, alice.key, ask(stream=True)), 502, "api_error")
    ended = rows(len(upstream.seen))
    assert {entry.status for entry in ended} == {"failed"}
    assert all(entry.estimated for entry in ended)


def test_a_json_answer_that_breaks_off_is_a_502(web, upstream, alice):
    body = message()
    start = whole(200, body)[0][: -len(body) // 2]
    upstream.answer = [start, End.CLOSE]
    refused(post(web, alice.key), 502, "api_error")
    assert (row().status, row().estimated) == ("failed", True)


def test_a_provider_that_is_not_there_is_a_502_that_costs_nothing(web, upstream, alice):
    alice.provider_key.base_url = "http://127.0.0.1:9"
    alice.provider_key.save()
    refused(post(web, alice.key), 502, "api_error")
    assert (row().status, row().error_type) == ("failed", "not_connected")
    assert row().cost == 0


def test_a_provider_that_does_not_answer_in_time_is_a_504(start_web, served, upstream, alice):
    web = start_web(upstream_first_byte_seconds=0.5)
    upstream.answer = [threading.Event()]
    refused(post(web, alice.key), 504, "timeout_error")
    assert upstream.last.gone.wait(20)
    assert (row().status, row().estimated) == ("failed", True)


def test_a_provider_that_stays_silent_is_ended_with_an_error(start_web, served, upstream, alice):
    web = start_web(ping_seconds=0.2, upstream_between_bytes_seconds=0.8)
    upstream.answer = [*pieces(200, events("Hello")[:3])[:-1], threading.Event()]
    answer = post(web, alice.key, ask(stream=True))
    assert decode(answer.content)[-1][0] == "error"
    assert upstream.last.gone.wait(20)
    assert row().status == "failed"


@pytest.mark.wire(10)
@pytest.mark.parametrize("delivered", [0, 1, 20])
def test_a_client_that_hangs_up_in_a_stream_cancels_the_call_and_pays_for_what_it_got(web, upstream, alice, delivered):
    texts = ["日本語の文章です" * 10] * delivered
    upstream.answer = [*pieces(200, events(*texts)[: 2 + delivered])[:-1], threading.Event()]
    with streaming(web, alice.key, max_tokens=4096) as (_, chunks):
        got = b""
        while got.count(b"\n\n") < 2 + delivered:
            got += next(chunks)
    hung_up = time.monotonic()
    assert upstream.last.gone.wait(20)
    assert upstream.last.gone_at - hung_up < 1
    entry = row()
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert entry.input_tokens == 11
    assert entry.output_tokens >= 80 * delivered
    assert entry.output_tokens <= 4096
    assert entry.cost > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_before_the_headers_cancels_the_call_and_pays_an_estimate(web, upstream, alice, stream):
    upstream.answer = [threading.Event()]
    body = json.dumps(ask("words " * 500, stream=stream)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {alice.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(web.address) as link:
        link.sendall(head.encode() + body)
        upstream.wait_for(1)
    hung_up = time.monotonic()
    assert upstream.last.gone.wait(20)
    assert upstream.last.gone_at - hung_up < 1
    entry = row()
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert entry.input_tokens > 500
    assert 0 < entry.output_tokens <= 64


def test_a_client_that_hangs_up_after_the_last_event_pays_what_was_counted(web, upstream, alice):
    upstream.answer = [*pieces(200, parts := events("Hello"))[:-1], threading.Event()]
    with streaming(web, alice.key) as (_, chunks):
        got = b""
        while got != b"".join(parts):
            got += next(chunks)
    entry = row()
    assert (entry.status, entry.estimated, entry.output_tokens) == ("completed", False, 7)
