"""What a connection makes a process hold is bounded, however much its client sends or leaves unread."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvloop
from uvicorn import Config
from uvicorn.server import ServerState

from gateway_project import http_protocol
from gateway_project.http_protocol import PARTS, PIECE, WAITING, Http

REQUEST = b"GET /healthz HTTP/1.1\r\nhost:a\r\n\r\n"
LONG_HEAD = b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * http_protocol.HEAD_BYTES + b"\r\n\r\n"
SHORTEST = len(b"GET / HTTP/1.1\r\nhost:\r\n\r\n")
# uvloop reads this much at once.
READ = 256 * 1024


class Served:
    """The protocol on a socket, without the gateway behind it: what its connections held, and what was called."""

    def __init__(self):
        self.calls, self.waiting, self.unread, self.unsent = 0, 0, 0, 0
        self.disconnects = 0
        self.answer = b"ok"
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope, receive, send):
        self.calls += 1
        await receive()
        # As a call does, that ends with its client.
        gone = asyncio.ensure_future(receive())
        going = asyncio.ensure_future(self.go_on.wait())
        await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
        self.disconnects += gone.done()
        for task in (gone, going):
            task.cancel()
        self.look()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(self.answer))],
            }
        )
        await send({"type": "http.response.body", "body": self.answer})

    def look(self):
        for connection in self.state.connections:
            assert isinstance(connection, Http)
            self.waiting = max(self.waiting, len(connection.pipeline))
            self.unread = max(self.unread, len(connection.unread))
            self.unsent = max(self.unsent, connection.transport.get_write_buffer_size())

    @contextlib.asynccontextmanager
    async def connect(self):
        self.config = Config(self, http=Http, ws="none", lifespan="off", log_config=None, access_log=False)
        self.state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Http(self.config, self.state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.close()


def run(scenario):
    async def bounded():
        async with asyncio.timeout(60):
            await scenario(Served())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_requests_behind_each_other_wait_in_small_numbers_and_all_are_answered():
    count = 20_000

    async def scenario(served):
        async with served.connect() as (reader, writer):
            writer.write(REQUEST * count + REQUEST.replace(b"host", b"connection: close\r\nhost"))
            said = await reader.read(-1)
        assert said.count(b"HTTP/1.1 200") == served.calls == count + 1
        assert 0 < served.waiting <= WAITING + PIECE // SHORTEST
        assert served.unread <= READ

    run(scenario)


OFFER = b"connection: upgrade\r\nupgrade: h2c\r\n"


@pytest.mark.parametrize("offers", [b"", OFFER])
@pytest.mark.parametrize("sent", [0, 1])
def test_behind_a_body_requests_wait_in_small_numbers_whether_or_not_they_offer_an_upgrade(offers, sent):
    """What can only be the rest of a body is read in one piece, but nothing behind it."""
    count, body = 3000, b"a" * 30_000
    posted = b"POST / HTTP/1.1\r\nhost: a\r\n" + offers + b"content-length: %d\r\n\r\n" % len(body)
    short = REQUEST.replace(b"host", offers + b"host")

    async def scenario(served):
        async with served.connect() as (reader, writer):
            writer.write(posted + body[:sent])
            await asyncio.sleep(0.05)
            writer.write(body[sent:] + (short + posted + body) * 3 + short * count)
            writer.write(REQUEST.replace(b"host", b"connection: close\r\nhost"))
            said = await reader.read(-1)
        assert said.count(b"HTTP/1.1 200") == served.calls == count + 8
        assert 0 < served.waiting <= WAITING + PIECE // SHORTEST

    run(scenario)


def test_while_requests_wait_nothing_more_is_read():
    """That holds for each kind of request that is being answered."""

    async def scenario(served):
        served.go_on.clear()
        async with served.connect() as (_, writer):
            writer.write(REQUEST * 100_000)
            await until(lambda: served.calls)
            for _ in range(20):
                await asyncio.sleep(0.01)
                served.look()
            assert served.waiting <= WAITING + PIECE // SHORTEST
            assert served.unread <= READ
            assert served.calls == 1
            served.go_on.set()

    run(scenario)


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"1\r\nx\r\n"


def test_chunks_of_a_byte_leave_others_their_turn(monkeypatch):
    """However many of them one read brings."""
    count, read, most = 200_000, 0, 0

    def on_body(self, body, on_body=Http.on_body):
        nonlocal read
        read += 1
        on_body(self, body)

    monkeypatch.setattr(Http, "on_body", on_body)

    async def scenario(served):
        nonlocal read, most
        async with served.connect() as (_, writer):
            writer.write(CHUNKED + CHUNK * count + b"0\r\n\r\n" + REQUEST)
            total = 0
            while total < count:
                await asyncio.sleep(0)
                most, total, read = max(most, read), total + read, 0
            await until(lambda: served.calls == 2)
            assert total == count
        # What was left of one read, and the beginning of the next.
        assert most <= 2 * (PARTS + PIECE // len(CHUNK) + 1)

    run(scenario)


def test_a_client_that_reads_nothing_holds_little_and_is_left(monkeypatch):
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.2)

    async def scenario(served):
        served.answer = b"a" * 50_000
        async with served.connect() as (reader, writer):
            reader._transport.pause_reading()
            writer.write(REQUEST * 100_000)
            await until(lambda: served.calls)
            await until(lambda: not served.state.connections)
        assert served.unsent < 4 * len(served.answer)
        assert served.calls < 2000

    run(scenario)


def test_a_client_that_reads_slowly_is_not_left(monkeypatch):
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.3)

    async def scenario(served):
        served.answer = b"a" * (24 << 20)
        async with served.connect() as (reader, writer):
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            got = 0
            while got < len(served.answer):
                part = await reader.read(1 << 20)
                assert part
                got += len(part)
                await asyncio.sleep(0.01)

    run(scenario)


@pytest.mark.parametrize(
    ("wrong", "status"), [(LONG_HEAD, 431), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"CONNECT x:1 HTTP/1.1\r\n\r\n", 405)]
)
def test_a_refusal_comes_behind_the_answers_before_it(wrong, status):
    async def scenario(served):
        async with served.connect() as (reader, writer):
            writer.write(REQUEST * 3 + wrong * 3 + REQUEST)
            said = await reader.read(-1)
        assert said.count(b"HTTP/1.1 ") == 4
        assert said.rfind(b"HTTP/1.1 200") < said.find(b"HTTP/1.1 %d" % status)
        assert served.calls == 3

    run(scenario)


def test_a_call_notices_that_its_client_is_gone_though_others_wait_behind_it():
    async def scenario(served):
        served.go_on.clear()
        async with served.connect() as (_, writer):
            writer.write(REQUEST * 3)
            await until(lambda: served.calls)
            (connection,) = served.state.connections
            connection.transport.abort()
            await until(lambda: served.disconnects)
            assert served.calls == 1
            assert not connection.pipeline

    run(scenario)


def test_a_head_that_is_not_read_yet_is_not_late(monkeypatch):
    """Behind requests that wait, its client can do nothing for it."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)

    async def scenario(served):
        served.go_on.clear()
        async with served.connect() as (reader, writer):
            writer.write(REQUEST * 3 + REQUEST[:10])
            await until(lambda: served.calls)
            await asyncio.sleep(0.5)
            served.go_on.set()
            await until(lambda: served.calls == 3)
            writer.write(REQUEST[10:])
            await until(lambda: served.calls == 4)
            writer.write(REQUEST[:10])
            assert (await reader.read(-1)).count(b"HTTP/1.1 408") == 1

    run(scenario)


def test_wrong_requests_of_one_connection_are_a_line_in_the_log(start_web):
    web = start_web(allowed_hosts="gateway")
    before = web.log.stat().st_size
    count = 100
    requests = b"".join(b"GET /admin/login/ HTTP/1.1\r\nhost: a%d\r\n\r\n" % number for number in range(count))
    with socket.create_connection(web.address, timeout=60) as link, link.makefile("rb") as said:
        link.sendall(requests)
        answers = 0
        while answers < count:
            line = said.readline()
            assert line
            answers += b"HTTP/1.1 400" in line
    written = web.log.read_bytes()[before:].splitlines()
    assert 1 <= len(written) <= 2
