"""A request and its answer on a connection: uvicorn's, with half of its work.

uvicorn searches each header of an answer for wrong characters, twice. Here a name is checked once per process, and
the values of a head are checked together. An answer gets a `date` unless it has one: an upstream's is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from logging import Logger
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from gateway_project import draining

Header = tuple[bytes, bytes]

# Bytes that no value of a header has.
CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t"))
LENGTH, ENCODING, CONNECTION, DATE = b"content-length: ", b"transfer-encoding: ", b"connection: ", b"date: "
# Characters of a header's name that is remembered.
LONGEST_KEPT = 100
# Parts of a body that are kept apart: each takes forty bytes besides its own.
MOST_PARTS = 64
FRAMING = frozenset((LENGTH, ENCODING, CONNECTION, DATE))


class Cycle(RequestResponseCycle):
    """uvicorn's cycle with a `send` and a `receive` of its own. A body that arrives in one part isn't copied.

    Attributes:
        gone: called if the client disconnects before the answer is complete.
        parts: of the body, which the application hasn't taken yet; `waiting`: their bytes.
    """

    def __init__(
        self,
        *,
        scope: Any,
        transport: asyncio.Transport,
        flow: FlowControl,
        logger: Logger,
        expects_100: bool,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        super().__init__(
            scope=scope,
            transport=transport,
            flow=flow,
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=expects_100,
            keep_alive=keep_alive,
            on_response=on_response,
        )
        self.gone: Callable[[], None] | None = None
        self.parts: list[bytes] = []
        self.waiting = 0

    def add(self, part: bytes) -> None:
        """Keep a part of the request's body until the application takes it."""
        self.parts.append(part)
        self.waiting += len(part)
        if len(self.parts) == MOST_PARTS:
            self.parts = [b"".join(self.parts)]
        self.message_event.set()

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        parts, self.parts, self.waiting = self.parts, [], 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def disconnect(self) -> None:
        """Note that the client has disconnected."""
        self.disconnected = True
        self.message_event.set()
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self.response_started = True
            self.waiting_for_100_continue = False
            self.transport.write(self._head(message["status"], message.get("headers", ())))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_part(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}.")

    def _head(self, status: int, headers: Iterable[Header]) -> bytes:
        """The head of the answer.

        Raises:
            RuntimeError: a header has characters that would end it.
        """
        lines, closes, has_date = [STATUS_LINE[status]], False, False
        for name, value in headers:
            start = beginning(name) if len(name) <= LONGEST_KEPT else checked(name)
            lines += (start, value, b"\r\n")
            if start not in FRAMING:
                continue
            if start == DATE:
                has_date = True
            elif start == LENGTH and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif start == ENCODING and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif start == CONNECTION and b"close" in [token.lower().strip() for token in value.split(b",")]:
                self.keep_alive, closes = False, True
        ends = len(lines) // 3 + 1  # of this many lines
        if not has_date:
            lines.append(date_of(int(time.time())))
            ends += 1
        if draining.begun:
            self.keep_alive = False
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
            ends += 1
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
            ends += 1
        head = b"".join(lines)
        if len(head) - len(head.translate(None, CONTROLS)) != 2 * ends:
            raise RuntimeError("Invalid HTTP header value.")
        return head + b"\r\n"

    def _send_part(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            end = b"" if more else b"0\r\n\r\n"
            if body:
                self.transport.write(b"%x\r\n%b\r\n%b" % (len(body), body, end))
            elif end:
                self.transport.write(end)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("Response content longer than Content-Length")
            self.transport.write(body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete, self.gone = True, None
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def checked(name: bytes) -> bytes:
    """The beginning of a header's line.

    Raises:
        RuntimeError: no header has this name.
    """
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower() + b": "


# The program's names of headers, and those that providers' answers may pass on, are few.
beginning = lru_cache(maxsize=1000)(checked)


@lru_cache(maxsize=1)
def date_of(second: int) -> bytes:
    """The `date` line of a second."""
    return DATE + formatdate(second, usegmt=True).encode() + b"\r\n"
