"""Calls that an administrator, a stop or the client ends early: the client's error, and the cost."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keys import issuing
from keys.models import ProviderKey
from tests.relay.test_streams import decode
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import (
    CLIENT,
    ask,
    credentials,
    event,
    events,
    message,
    post,
    refused,
    row,
    rows,
    started,
    wait_until,
)
from usage.models import Hold


def cut(caller):
    issuing.revoke(caller.virtual_key, cut_streams=True)


def raw(key, **members):
    """A request as bytes."""
    body = json.dumps(ask(**members)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def slow_client(web, key):
    """A connection that has asked for a stream, and takes little of it at a time."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(10)
    link.connect(web.address)
    link.sendall(raw(key, stream=True))
    return link


def read_all(link):
    """The body of a chunked answer, whose end must be in order."""
    said = b""
    while not said.endswith(b"0\r\n\r\n") and (part := link.recv(1 << 20)):
        said += part
    _, _, chunked = said.partition(b"\r\n\r\n")
    body = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        body, chunked = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def check_cut_short(body, sent, kind):
    """What a client got of a stream that we ended: whole events as the provider sent them, then an error."""
    found = decode(body)
    assert found[-1][0] == "error"
    assert found[-1][1]["error"]["type"] == kind
    assert found[-1][1]["request_id"].startswith("req_bf_")
    intact = [pair for pair in found if pair[0] not in ("ping", "error")]
    assert intact
    assert intact == decode(sent)[: len(intact)]


def headers_only(parts):
    """The start of a JSON answer that goes no further."""
    return [whole(200, message())[0][:parts], threading.Event()]


@pytest.mark.parametrize(
    "answer",
    [[threading.Event()], headers_only(-len(message())), headers_only(-20)],
    ids=["before its headers", "after its headers", "in its body"],
)
def test_a_json_call_that_is_cut_is_a_403_and_interrupted(web, upstream, alice, answer):
    upstream.answer = answer
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(post, web, alice.key)
        upstream.wait_for(1)
        time.sleep(0.1)
        cut(alice)
        assert "revoked" in refused(calling.result(), 403, "permission_error")
        assert calling.result().headers["x-should-retry"] == "false"
    assert upstream.last.gone.wait(20)
    entry = row()
    assert (entry.status, entry.estimated) == ("interrupted", True)
    assert entry.cost > 0


@pytest.mark.parametrize("at", ["after an event", "in an event"])
def test_a_stream_that_is_cut_ends_in_an_error_after_whole_events(web, upstream, alice, at):
    parts = events("Grüße", "two")
    sent = b"".join(parts[:3])
    if at == "in an event":
        sent = sent[: sent.index("ü".encode()) + 1]
    upstream.answer = [*pieces(200, [sent])[:-1], threading.Event()]
    with CLIENT.stream(
        "POST", web.url + "/v1/messages", json=ask(stream=True), headers=credentials(alice.key)
    ) as answer:
        chunks = answer.iter_raw()
        got = next(chunks)
        cut(alice)
        got += b"".join(chunks)
    assert got.startswith(sent)
    check_cut_short(got, b"".join(parts), "permission_error")
    assert upstream.last.gone.wait(20)
    entry = row()
    assert (entry.status, entry.estimated, entry.input_tokens) == ("interrupted", True, 11)


LONG = [event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 50_000})] * 400


def test_a_stream_that_is_cut_under_a_slow_client_ends_in_an_error_after_whole_events(web, upstream, alice):
    start = events("")[:2]
    upstream.answer = [*pieces(200, [*start, *LONG])[:-1], threading.Event()]
    with slow_client(web, alice.key) as link:
        upstream.wait_for(1)
        time.sleep(0.5)
        cut(alice)
        # At once, though the client reads nothing.
        assert row().status == "interrupted"
        assert upstream.last.gone.wait(20)
        check_cut_short(read_all(link), b"".join([*start, *LONG]), "permission_error")
    assert row().output_tokens <= 64


def test_a_call_that_is_cut_when_it_is_over_has_one_row_and_keeps_its_answer(web, upstream, alice):
    upstream.answer = [*pieces(200, parts := events("one"))[:-1], threading.Event()]
    with CLIENT.stream(
        "POST", web.url + "/v1/messages", json=ask(stream=True), headers=credentials(alice.key)
    ) as answer:
        chunks = answer.iter_raw()
        got = b""
        while got != b"".join(parts):
            got += next(chunks)
        assert row().status == "completed"
        cut(alice)
    assert row().status == "completed"


def test_stopping_ends_calls_that_outlast_the_grace_with_words_and_one_row_each(served, upstream, alice):
    start = events("one")[:3]
    upstream.answer = lambda seen: (
        [*pieces(200, start)[:-1], threading.Event()]
        if json.loads(seen.body)["stream"]
        else headers_only(-20 if "body" in seen.body.decode() else 0)
    )
    with started(stop_grace_seconds=1) as web, ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(post, web, alice.key, ask("no answer", stream=False)) for _ in range(3)]
        reading = [pool.submit(post, web, alice.key, ask("half a body", stream=False)) for _ in range(3)]
        streams = [pool.submit(post, web, alice.key, ask(stream=True)) for _ in range(3)]
        upstream.wait_for(9)
        time.sleep(0.3)
        web.close()
        for call in (*waiting, *reading):
            assert "restarted" in refused(call.result(), 503, "api_error")
            assert int(call.result().headers["retry-after"]) > 0
            assert call.result().headers["x-should-retry"] == "true"
        for stream in streams:
            assert stream.result().content.startswith(b"".join(start))
            check_cut_short(stream.result().content, b"".join(start), "api_error")
    entries = rows(9)
    assert {entry.status for entry in entries} == {"interrupted"}
    assert all(entry.estimated and entry.cost > 0 for entry in entries)
    assert all(seen.gone.wait(20) for seen in upstream.seen)


def test_stopping_under_a_client_that_reads_nothing_ends_and_has_a_row(served, upstream, alice):
    upstream.answer = [*pieces(200, [*events("")[:2], *LONG])[:-1], threading.Event()]
    with started(stop_grace_seconds=1) as web, slow_client(web, alice.key):
        upstream.wait_for(1)
        time.sleep(0.5)
        web.close()
    assert row().status == "interrupted"


@pytest.mark.parametrize("client", ["lean", "aiohttp"])
def test_a_client_that_hangs_up_while_the_provider_is_connected_to_pays_nothing(
    served, start_web, upstream, alice, client
):
    web = start_web(upstream_client=client)
    with full_listener() as address:
        ProviderKey.objects.update(base_url=f"http://{address[0]}:{address[1]}")
        for count in (1, 2, 3):
            with socket.create_connection(web.address) as link:
                link.sendall(raw(alice.key))
                wait_until(Hold.objects.exists)
                time.sleep(0.1)
            entries = rows(count)
    assert {(entry.status, entry.estimated) for entry in entries} == {("client_disconnected", False)}
    assert not any(entry.cost or entry.input_tokens or entry.output_tokens for entry in entries)


@pytest.mark.parametrize("client", ["lean", "aiohttp"])
@pytest.mark.parametrize("kept", [False, True], ids=["a new connection", "a kept connection"])
def test_a_client_that_hangs_up_once_the_request_went_out_pays(served, start_web, upstream, alice, client, kept):
    web = start_web(upstream_client=client)
    if kept:
        upstream.answer = whole(200, message())
        post(web, alice.key)
    upstream.answer = [threading.Event()]
    with socket.create_connection(web.address) as link:
        link.sendall(raw(alice.key))
        upstream.wait_for(1 + kept)
    entry = rows(1 + kept)[-1]
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert entry.cost > 0


def test_a_cut_while_the_provider_is_connected_to_costs_nothing(web, upstream, alice):
    with full_listener() as address, ThreadPoolExecutor() as pool:
        ProviderKey.objects.update(base_url=f"http://{address[0]}:{address[1]}")
        calling = pool.submit(post, web, alice.key)
        time.sleep(0.5)
        cut(alice)
        refused(calling.result(), 403, "permission_error")
    entry = row()
    assert (entry.status, entry.estimated, entry.input_tokens) == ("interrupted", False, 0)
    assert not entry.cost


@contextlib.contextmanager
def full_listener():
    """An address that accepts no connection: its queue is full."""
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            link = open_sockets.enter_context(socket.socket())
            link.setblocking(False)
            link.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()
