"""One HTTP/1.1 connection to a provider: `httptools` on asyncio's protocols.

lean.py opens, keeps and chooses connections.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Protocol

import httptools

from messages_api.upstream.client import Headers, StreamedBody, UpstreamError

# An answer's headers and trailers, and its header lines, at most.
HEAD_BYTES = 256 * 1024
HEAD_LINES = 500
# When this many bytes wait for a slow client, reading from the provider pauses.
HIGH_WATER = 256 * 1024

Origin = tuple[str, int, bool]


class Keeper(Protocol):
    """The client that owns the connections."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]
    closed: bool

    def keep(self, connection: Connection) -> None: ...

    def drop(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """A connection, and the answer that is being read from it."""

    def __init__(self, client: Keeper, origin: Origin) -> None:
        self.client = client
        self.origin = origin
        self.loop = client.loop
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.room: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self.idle = False
        # The parts of the body that have arrived. The parser adds to this list without a call of Python code, because a
        # provider may send each event as a chunk of its own.
        self.parts: list[bytes] = []
        self.on_body = self.parts.append
        # One parser for all answers: only a complete answer, after which the connection stays, is followed by another.
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.head_bytes = 0
        self.unread_bytes = 0
        self.parts.clear()
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
            # No request is open: the next request must not take these bytes for its answer.
            self.reusable = False
            self.abort()
            return
        # Grows while the parser consumes bytes without a callback, as with an endless line.
        self.unread_bytes += len(data)
        before = len(self.parts)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fault = self.fault or "bad_http"
        if len(self.parts) != before:
            self.unread_bytes = 0
            self.waiting_bytes += len(data)
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
        # The parser and the transport refer to this object: break the cycles without the garbage collector.
        self.transport = self.parser = None
        self.client.connections.discard(self)
        if self.idle:
            self.client.drop(self)
        if not self.complete:
            # A body without a length and without chunks ends with its connection.
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
        if self.complete:  # a second answer to a single request
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
            raise httptools.HttpParserError("unrequested change of protocol")
        if status < 200:  # 100, 103: the final answer follows
            self.headers = []
            self.delimited = False
            return
        self.status = status
        self.has_head = True
        if status in (204, 304):
            self.delimited = True

    def on_message_complete(self) -> None:
        if self.has_head and self.parser is not None:
            self.complete = True
            self.reusable = self.parser.should_keep_alive()

    # What the client calls

    async def send(self, body: StreamedBody, patience: float) -> None:
        """Send a body while it arrives, until it is complete or the provider answers.

        Args:
            patience: seconds that the provider may take to accept more.

        Raises:
            UpstreamError: the provider accepts no more, or the body is longer or shorter than its `size`.
            Exception: whatever the parts of the body raise.
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
            UpstreamError: the connection ended or failed before it.
        """
        while not self.has_head and not self.fault:
            await self._wait()
        if not self.has_head:
            raise UpstreamError("no_answer" if self.fault == "broken_off" else self.fault, sent=True)

    async def read(self) -> bytes:
        """The next bytes of the body, empty at the end.

        Raises:
            UpstreamError: the provider disconnected before the end.
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
        """End the use of the answer: keep the connection if the answer is complete, abort it otherwise."""
        # A task that still waits for this answer must not wake up to the next one.
        if self.complete and self.waiter is None:
            self.release()
        else:
            self.fault = self.fault or "closed"
            self.abort()
            self._wake()

    def is_open(self) -> bool:
        """Whether the connection is open with nothing to read, as the kernel knows it: the event loop learns later."""
        if self.transport is None or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def release(self) -> None:
        """Keep the connection after a complete answer, unless one side has not read everything that the other sent."""
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
