"""A request's head, which arrives before the caller is known, is bounded in bytes, lines and seconds."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, transaction

from gateway_project import http_protocol
from keys.models import Cooldown
from tests.support.fake_provider import whole
from tests.support.gateway import ask, message, post, wait_until
from tests.support.signed_in import signed_in


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


@pytest.mark.parametrize(
    "rest",
    [
        b"0\r\nx: " + b"a" * (1 << 20),
        b"0\r\n" + b"x:\r\n" * (1 << 18),
        b"1;" + b"a" * (1 << 20),
        b"0\r\n\r\n" + b"\r\n" * (1 << 19),
    ],
    ids=["a long trailer", "many trailers", "a long extension", "blank lines"],
)
def test_what_is_neither_head_nor_body_has_an_end(web, rest):
    """Each piece of it was copied with all that came before, and kept for as long as its request."""
    with connect(web) as link:
        link.sendall(b"POST /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
        link.settimeout(30)
        with contextlib.suppress(ConnectionError):
            link.sendall(rest)
            while link.recv(1 << 16):
                pass


def test_a_trailer_is_no_header_of_its_request(web, alice, upstream):
    body = json.dumps(ask()).encode()
    upstream.answer = whole(200, message())
    with connect(web) as link:
        link.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\ntransfer-encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\nanthropic-beta: late\r\n\r\n" % (alice.key.encode(), len(body), body)
        )
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert not upstream.last.values("anthropic-beta")


def head(*lines, method="GET", path="/healthz"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "large",
    [
        head("x: " + "a" * http_protocol.HEAD_BYTES),
        head(*(f"x-{number}: a" for number in range(http_protocol.HEAD_LINES + 1))),
        head(path="/" + "a" * http_protocol.HEAD_BYTES),
    ],
    ids=["long", "many", "path"],
)
@pytest.mark.parametrize("before", [b"", head()], ids=["first", "behind another"])
def test_a_whole_head_that_is_too_large_is_refused_too(web, large, before):
    """Also where it comes at once, and where it comes with the end of another request, begun or whole."""
    for sent in (large, large[:-4]):
        with connect(web) as link:
            link.sendall(before + sent)
            said = b""
            while part := link.recv(1 << 16):
                said += part
            assert b"HTTP/1.1 431" in said


def test_heads_of_usual_size_pass_at_any_start(web):
    """What comes with the end of a long body is no part of the next head."""
    own = head("x: " + "a" * (http_protocol.HEAD_BYTES - 1000))
    body = b"a" * (http_protocol.HEAD_BYTES * 4)
    with connect(web) as link, link.makefile("rb") as said:
        link.sendall(head(f"content-length: {len(body)}") + body + own[:2000])
        link.sendall(own[2000:] + own * 3)
        statuses = list[bytes]()
        while len(statuses) < 5:
            line = said.readline()
            assert line
            if line.startswith(b"HTTP/1.1"):
                statuses.append(line.split()[1])
    assert statuses == [b"200"] * 5


def test_requests_with_offers_behind_each_other_do_not_nest(web):
    """Each nested in the one before: a thousand were as many turns of the stack."""
    count = 1500
    before = web.log.stat().st_size
    with connect(web) as link, link.makefile("rb") as said:
        link.sendall(head("connection: upgrade", "upgrade: h2c") * count)
        answers = 0
        while answers < count:
            line = said.readline()
            assert line, answers
            answers += line.startswith(b"HTTP/1.1 200")
    assert b"Traceback" not in web.log.read_bytes()[before:]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"CONNECT / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\nhost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST /admin/login/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity, chunked\r\n\r\n", 501),
        (
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            b"transfer-encoding: chunked\r\n\r\n",
            400,
        ),
    ],
)
def test_a_head_that_is_refused_is_read_once_and_writes_little(web, request_head, status):
    before = web.log.stat().st_size
    with connect(web) as link:
        link.sendall(request_head * 3)
        said = b""
        while part := link.recv(1 << 16):
            said += part
    assert said.startswith(b"HTTP/1.1 %d" % status)
    assert said.count(b"HTTP/1.1") == 1
    assert web.log.stat().st_size - before < 300


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


def test_connections_of_strangers_take_no_files_that_calls_need(start_web, served, alice, upstream):
    web, may = start_web(ping_seconds=14), threading.Event()
    process = web.processes[0].pid
    _, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (200, hard))
    upstream.answer = [may, *whole(200, message(), ("connection", "close"))]
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(post, web, alice.key)
        wait_until(lambda: upstream.seen)
        for _ in range(250):
            opened.enter_context(connect(web)).sendall(b"GET / HTTP/1.1\r\n")
            time.sleep(0.005)
        # A busy process takes a while to close them.
        wait_until(lambda: len(list(Path(f"/proc/{process}/fd").iterdir())) < 150)
        may.set()
        assert [under_way.result().status_code, *(post(web, alice.key).status_code for _ in range(3))] == [200] * 4
    assert not Cooldown.objects.exists()


def test_the_page_of_a_signed_in_person_is_not_closed_to_make_room_for_strangers(start_web, served):
    web = start_web(ping_seconds=13)
    process = web.processes[0].pid
    _, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (200, hard))
    page = "/admin/keys/providerkey/"
    # The page counts the rows, which the process itself never does. Within a transaction, the view would stay as it is.
    waiting = "SELECT pg_stat_clear_snapshot(), pid FROM pg_stat_activity"
    waiting += """ WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT COUNT(*)%keys_providerkey%'"""
    with contextlib.ExitStack() as opened, connection.cursor() as cursor:
        cookies = opened.enter_context(signed_in())
        link = opened.enter_context(connect(web))
        with transaction.atomic():
            cursor.execute("LOCK keys_providerkey")
            link.sendall(head(f"cookie: sessionid={cookies['sessionid']}", path=page))
            wait_until(lambda: cursor.execute(waiting) or cursor.fetchone())
            for _ in range(100):
                opened.enter_context(connect(web)).sendall(b"GET / HTTP/1.1\r\n")
                time.sleep(0.005)
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
