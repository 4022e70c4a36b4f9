"""The relay's HTTP/1.1 client: `httptools` on asyncio's protocols, a fifth of aiohttp's CPU.

It does what a relay needs and nothing else: requests with a whole body or one that comes in parts, answers read as
they come, connections kept alive. It decides nothing: no redirects, cookies, decompression, retries or headers of its
own but `host` and what frames the body. Proxies are aiohttp's business (`messages_api/aiohttp_client.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import ssl
import time
from collections import defaultdict
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import httptools

from keys.destinations import Destinations, resolved
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.upstream import Answer, Body, Headers, OnWrite, StreamedBody, UpstreamError

# An answer's headers and trailers, and its header lines, at most.
HEAD_BYTES = 256 * 1024
HEAD_LINES = 500
# A client that reads slowly holds its provider back once so many bytes wait.
HIGH_WATER = 256 * 1024
# Connections that nobody used for so long are closed by us, before a provider's front end does it under a request.
KEEP_ALIVE_SECONDS = 30.0

# What no request line can carry.
UNFIT = re.compile(rb"[\x00-\x20\x7f]")

Origin = tuple[str, int, bool]


class Connection(asyncio.Protocol):
    """One connection to a provider, and the answer that is being read from it."""

    def __init__(self, client: LeanClient, origin: Origin) -> None:
        self.client = client
        self.origin = origin
        self.loop = client.loop
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.room: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self.idle = False
        self._expect_nothing()

    def _expect_nothing(self) -> None:
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self.head_bytes = 0
        self.unread_bytes = 0
        self.parts: list[bytes] = []
        self.waiting_bytes = 0
        self.has_head = False
        self.complete = False
        self.delimited = False
        self.reusable = True
        self.paused = False
        self.unfinished = False
        self.fault = ""

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.client.connections.add(self)
        if (plain := transport.get_extra_info("socket")) is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self.idle or self.complete or self.parser is None:
            # Nobody asked: whatever this is, the next request must not take it for its answer.
            self.reusable = False
            self.abort()
            return
        # What the parser goes through without telling us of anything: an endless line.
        self.unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fault = self.fault or "bad_http"
        if self.unread_bytes > HEAD_BYTES:
            self.fault = self.fault or "bad_http"
        if self.fault:
            self.abort()
        elif self.waiting_bytes > HIGH_WATER and not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        # The parser holds on to us, as the transport does: nothing is left for the garbage collector.
        self.transport = self.parser = None
        self.client.connections.discard(self)
        if self.idle:
            self.client.drop(self)
        if not self.complete:
            # Without a length or chunks, a body ends with its connection.
            if self.has_head and not self.delimited and error is None and not self.fault:
                self.complete = True
            else:
                self.fault = self.fault or "broken_off"
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.room = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.room is not None:
            if not self.room.done():
                self.room.set_result(None)
            self.room = None

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.complete:  # a second answer behind the first: nobody asked for it
            raise httptools.HttpParserError("unexpected answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.unread_bytes = 0
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > HEAD_BYTES or len(self.headers) == HEAD_LINES:
            raise httptools.HttpParserError("too many headers")
        if self.has_head:  # a trailer
            return
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self.delimited = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status == 101:
            raise httptools.HttpParserError("nobody asked for another protocol")
        if status < 200:  # 100, 103: the answer is still to come
            self.headers = []
            self.delimited = False
            return
        self.status = status
        self.has_head = True
        if status in (204, 304):
            self.delimited = True

    def on_body(self, body: bytes) -> None:
        self.unread_bytes = 0
        self.parts.append(body)
        self.waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self.has_head and self.parser is not None:
            self.complete = True
            self.reusable = self.parser.should_keep_alive()

    # What the client calls

    async def send(self, body: StreamedBody, patience: float) -> None:
        """Send a body as it comes, until it is complete or its answer is there.

        Args:
            patience: seconds that the provider may take to make room for more.

        Raises:
            UpstreamError: the provider takes no more, or the body isn't as long as was said.
            Exception: whatever its parts raise.
        """
        self.unfinished = True
        sending = self.loop.create_task(self._send(body, patience))
        sending.add_done_callback(lambda _: self._wake())
        try:
            while not (sending.done() or self.has_head or self.fault):
                await self._wait()
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
        if not sending.cancelled():
            sending.result()

    async def _send(self, body: StreamedBody, patience: float) -> None:
        chunked = body.size is None
        async for part in body.exact():
            if self.transport is None:
                return
            self.transport.writelines((b"%x\r\n" % len(part), part, b"\r\n") if chunked else (part,))
            if self.room is not None:
                try:
                    async with asyncio.timeout(patience):
                        await self.room
                except TimeoutError:
                    raise UpstreamError("no_answer_in_time", sent=True) from None
        if chunked and self.transport is not None:
            self.transport.write(b"0\r\n\r\n")
        self.unfinished = False

    async def answer(self) -> None:
        """Wait for the head of the answer.

        Raises:
            UpstreamError: there is none to come.
        """
        while not self.has_head and not self.fault:
            await self._wait()
        if not self.has_head:
            raise UpstreamError("no_answer" if self.fault == "broken_off" else self.fault, sent=True)

    async def read(self) -> bytes:
        """The next bytes of the body, empty at the end.

        Raises:
            UpstreamError: it broke off.
        """
        while not self.parts:
            if self.complete:
                self.release()
                return b""
            if self.fault:
                raise UpstreamError(self.fault, sent=True)
            await self._wait()
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self.waiting_bytes = 0
        if self.paused and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()
        return body

    def close(self) -> None:
        """Let go: reuse the connection if its answer is complete, cut it off otherwise."""
        # Whoever still waits for this answer must not wake up to the next one.
        if self.complete and self.waiter is None:
            self.release()
        else:
            self.fault = self.fault or "closed"
            self.abort()
            self._wake()

    def is_open(self) -> bool:
        """Whether the other side keeps it open and silent, as far as the kernel knows; the event loop hears later."""
        if self.transport is None or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def release(self) -> None:
        """The answer is complete: keep the connection, unless either side has not read all that the other sent."""
        if self.transport is None or self.idle:
            return
        unsent = self.transport.get_write_buffer_size()
        if self.reusable and not (
            self.fault or self.paused or self.unfinished or unsent or self.client.closed or self.transport.is_closing()
        ):
            self.client.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def _wait(self) -> None:
        self.waiter = self.loop.create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class LeanAnswer:
    """An answer that holds its connection until it is read or let go; afterwards it touches it no more."""

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.status = connection.status
        self.headers = connection.headers

    async def read(self) -> bytes:
        if self.connection is None:
            return b""
        body = await self.connection.read()
        if not body:
            self.connection = None
        return body

    def close(self) -> None:
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.close()


class LeanClient:
    """Calls providers over connections of its own.

    Args:
        tls: for https.
        destinations: where it may connect.
        connect_seconds: for resolving, connecting and TLS, where a call says nothing else.
        first_byte_seconds: from the end of the request to the answer's headers, likewise.
    """

    def __init__(
        self, *, tls: ssl.SSLContext, destinations: Destinations, connect_seconds: float, first_byte_seconds: float
    ) -> None:
        self.tls = tls
        self.destinations = destinations
        self.connect_seconds = connect_seconds
        self.first_byte_seconds = first_byte_seconds
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.kept: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self.sweeping: asyncio.TimerHandle | None = None
        self.closed = False

    async def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: Body,
        on_write: OnWrite | None = None,
        timeouts: Timeouts = DEPLOYMENTS,
    ) -> Answer:
        first_byte_seconds = timeouts.first_byte or self.first_byte_seconds
        origin, host, target = parse(url)
        size = len(body) if isinstance(body, bytes) else body.size
        framing = b"transfer-encoding: chunked" if size is None else b"content-length: %d" % size
        head = b"".join(
            (
                b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method.encode(), target, host, framing),
                *(b"%b: %b\r\n" % line for line in headers),
                b"\r\n",
            )
        )
        if not head.count(b"\n") == head.count(b"\r") == len(headers) + 4:  # a line break in a header
            raise UpstreamError("bad_header", sent=False)
        connection = self.take(origin) or await self.connect(origin, timeouts.connect or self.connect_seconds)
        assert connection.transport is not None
        if on_write is not None:
            on_write()
        try:
            if isinstance(body, bytes):
                connection.transport.writelines((head, body))
            else:
                connection.transport.write(head)
                await connection.send(body, first_byte_seconds)
            try:
                async with asyncio.timeout(first_byte_seconds):
                    await connection.answer()
            except TimeoutError:
                raise UpstreamError("no_answer_in_time", sent=True) from None
        except BaseException:
            connection.close()
            raise
        return LeanAnswer(connection)

    async def connect(self, origin: Origin, seconds: float) -> Connection:
        """A new connection, within so many seconds, to an address that was looked at.

        Raises:
            UpstreamError: it could not be made in time; nothing was sent.
        """
        host, port, _ = origin
        try:
            async with asyncio.timeout(seconds):
                *others, last = self.destinations.permitted(host, await self._addresses(host, port))
                for address in others:
                    with contextlib.suppress(OSError):
                        return await self._connect(origin, address)
                return await self._connect(origin, last)
        except (OSError, TimeoutError, ValueError) as error:  # TLS errors are OSErrors
            raise UpstreamError("not_connected", sent=False) from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            ip_address(host)
        except ValueError:
            return resolved(await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return [host]

    async def _connect(self, origin: Origin, address: str) -> Connection:
        host, port, secure = origin
        _, connection = await self.loop.create_connection(
            lambda: Connection(self, origin),
            address,
            port,
            ssl=self.tls if secure else None,
            server_hostname=host if secure else None,
        )
        return connection

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection that is still good, the one that was used last."""
        kept = self.kept.get(origin)
        while kept:
            connection = kept.pop()
            connection.idle = False
            if connection.is_open():
                connection._expect_nothing()
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection) -> None:
        """A connection is free again."""
        connection.idle = True
        connection.idle_since = time.monotonic()
        self.kept[connection.origin].append(connection)
        if self.sweeping is None:
            self.sweeping = self.loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def drop(self, connection: Connection) -> None:
        """A kept connection was closed by the other side."""
        kept = self.kept.get(connection.origin)
        if kept and connection in kept:
            kept.remove(connection)

    def _sweep(self) -> None:
        oldest = time.monotonic() - KEEP_ALIVE_SECONDS
        for origin, kept in list(self.kept.items()):
            self.kept[origin] = [connection for connection in kept if connection.idle_since > oldest]
            for connection in kept:
                if connection.idle_since <= oldest:
                    connection.abort()
            if not self.kept[origin]:
                del self.kept[origin]
        self.sweeping = self.loop.call_later(KEEP_ALIVE_SECONDS / 2, self._sweep) if self.kept else None

    async def close(self) -> None:
        self.closed = True
        if self.sweeping is not None:
            self.sweeping.cancel()
        for connection in self.connections:
            connection.abort()
        self.kept.clear()
        # Sockets are closed in the event loop's next turn.
        await asyncio.sleep(0)


# Few URLs are called, again and again; but a caller's query is a part of them.
@lru_cache(maxsize=128)
def parse(url: str) -> tuple[Origin, bytes, bytes]:
    """A URL's origin, its `host` header, and its path with the query, byte for byte (characters are Latin-1).

    Raises:
        UpstreamError: it can't be called.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
        raw = url.encode("latin-1")
    except ValueError:
        raise UpstreamError("not_connected", sent=False) from None
    if scheme not in ("http", "https") or not host or not parts.netloc.isascii() or UNFIT.search(raw):
        raise UpstreamError("not_connected", sent=False)
    secure = scheme == "https"
    target = raw[len(scheme) + len("://") + len(parts.netloc) :].partition(b"#")[0]
    if not target.startswith(b"/"):
        target = b"/" + target
    return (host, port or (443 if secure else 80), secure), parts.netloc.rpartition("@")[2].encode(), target
