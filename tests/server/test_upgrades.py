"""Clients that offer another protocol (h2c, WebSocket) are served HTTP/1.1 as if they hadn't."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.support.fake_provider import whole
from tests.support.gateway import ask, message, rows, talk

H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]
WEBSOCKET = ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
OFFERS = pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])


def head(key, *lines):
    """A request's head as a client writes it, with these lines before its own."""
    own = ["POST /v1/messages?beta=true HTTP/1.1", *lines, "Host: gateway", f"x-api-key: {key}", "anthropic-mine: 7"]
    return "\r\n".join(own).encode() + b"\r\n"


def with_length(key, body, offer):
    return head(key, *offer) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(key, body, offer, size=50):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return (
        head(key, *offer)
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )


def check_relayed(upstream, seen, body):
    assert seen.body == body
    assert seen.target == "/v1/messages?beta=true"
    assert seen.values("anthropic-mine") == ["7"]
    assert not {name for name, _ in seen.headers} & {b"upgrade", b"http2-settings"}


@OFFERS
@pytest.mark.parametrize("framed", [with_length, chunked])
def test_an_offer_to_change_the_protocol_is_ignored(web, upstream, alice, offer, framed):
    upstream.answer = whole(200, message())
    body = json.dumps(ask("words " * 100)).encode()
    status, headers, got = talk(web, framed(alice.key, body, offer))
    assert (status, got) == (200, message())
    assert "upgrade" not in headers
    check_relayed(upstream, upstream.last, body)
    assert len(rows(1)) == 1


@OFFERS
@pytest.mark.parametrize("framed", [with_length, chunked])
def test_an_offer_is_ignored_at_any_split_of_the_request(web, upstream, alice, offer, framed):
    upstream.answer = whole(200, message())
    body = json.dumps(ask()).encode()
    request = framed(alice.key, body, offer)
    end = request.index(b"\r\n\r\n")
    places = [1, 10, request.index(b"Upgrade") + 3, end, end + 1, end + 2, end + 3, end + 4, end + 5, end + 30]
    for place in [*places, len(request) - 6, len(request) - 1]:
        with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall(request[:place])
            time.sleep(0.02)
            link.sendall(request[place:])
            status, got = answer(said)
        assert (status, got) == (200, message()), place
        check_relayed(upstream, upstream.last, body)
    rows(len(upstream.seen))


def test_an_offer_is_ignored_where_every_byte_comes_by_itself(web, upstream, alice):
    upstream.answer = whole(200, message())
    body = json.dumps(ask()).encode()
    with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chunked(alice.key, body, H2C):
            link.send(bytes([byte]))
        assert answer(said) == (200, message())
    check_relayed(upstream, upstream.last, body)


@OFFERS
@pytest.mark.parametrize("framed", [with_length, chunked])
def test_every_request_of_a_connection_may_bring_an_offer(web, upstream, alice, offer, framed):
    upstream.answer = whole(200, message())
    bodies = [json.dumps(ask(f"Number {number}")).encode() for number in range(6)]
    with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
        for number, body in enumerate(bodies):
            link.sendall(framed(alice.key, body, offer if number % 3 else []))
            assert answer(said) == (200, message())
            check_relayed(upstream, upstream.last, body)
    rows(len(bodies))


def test_pipelined_requests_with_upgrade_offers_are_answered_in_turn(web, upstream, alice):
    upstream.answer = lambda seen: whole(200, message(json.loads(seen.body)["messages"][0]["content"]))
    words = [f"Number {number}" for number in range(5)]
    with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
        link.sendall(b"".join(with_length(alice.key, json.dumps(ask(word)).encode(), H2C) for word in words))
        for word in words:
            assert answer(said) == (200, message(word))
    rows(len(words))


def test_an_offer_without_a_body_is_ignored(web):
    lines = ["GET /healthz HTTP/1.1", "Host: gateway", *H2C, "", ""]
    status, headers, body = talk(web, "\r\n".join(lines).encode())
    assert (status, body) == (200, b"ok\n")
    assert "upgrade" not in headers


def test_what_is_no_http_behind_an_offer_is_a_400(web, upstream, alice):
    request = with_length(alice.key, b"", H2C) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
        link.sendall(request)
        assert answer(said)[0] == 400
        assert said.read() == b""
    assert upstream.seen == []


def answer(said):
    """Status and body of the next answer on a connection."""
    status, size = int(said.readline().split()[1]), -1
    while line := said.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    return status, said.read(size)
