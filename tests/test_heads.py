"""What comes before anybody is known is bounded: a request's head in bytes, lines and seconds."""

from __future__ import annotations

import socket
import time

import pytest

from gateway_project import http_protocol


def connect(web):
    return socket.create_connection(web.address, timeout=60)


@pytest.mark.parametrize("line", [b"x-%d: a\r\n", b"x: " + b"a" * 60_000 + b"%d\r\n"], ids=["many", "long"])
def test_a_head_without_end_is_refused(web, line):
    with connect(web) as link:
        link.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n")
        sent = 0
        try:
            for number in range(100_000):
                link.sendall(line % number)
                sent += len(line)
        except OSError:
            pass
        assert sent < 20 << 20
        try:
            answer = link.recv(1 << 16)
        except ConnectionError:
            answer = b"HTTP/1.1 431"  # it was closed on us while we went on
        assert answer.startswith(b"HTTP/1.1 431")


def test_a_body_may_be_longer_than_a_head(web, alice, upstream):
    body = b'{"model":"x","pad":"' + b"a" * (http_protocol.HEAD_BYTES * 2) + b'"}'
    with connect(web) as link:
        link.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n"
            % (alice.key.encode(), len(body))
        )
        for start in range(0, len(body), 1 << 15):
            link.sendall(body[start : start + (1 << 15)])
        assert b" 400 " in link.recv(1 << 16).split(b"\r\n")[0]


@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"POST /v1/me", b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(web, begun):
    began = time.monotonic()
    with connect(web) as link:
        link.sendall(begun)
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < http_protocol.HEAD_SECONDS + 20
