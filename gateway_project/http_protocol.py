"""uvicorn's HTTP/1.1, with bounds on what comes before anybody is known, and deaf to offers of another protocol.

uvicorn takes heads of any length, for any time. And Java's own client sends `Upgrade: h2c` with every request that it
makes without TLS: a server may ignore that, but httptools takes what follows the head for another protocol, so that
uvicorn calls the application with an empty body.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from messages_api import cors

# A request's head: bytes and lines at most, and seconds until it is whole. Before it, nobody knows who is asking.
HEAD_BYTES = 96 * 1024
HEAD_LINES = 1000
HEAD_SECONDS = 10
TOO_LARGE = 431, "request_too_large", "The request's headers are too large."

OFFERS = {b"upgrade", b"connection", b"http2-settings"}


class Http(HttpToolsProtocol):
    """uvicorn's protocol, with bounded heads, and deaf to offers of another one.

    Attributes:
        origins: of the pages that may read what it refuses.
    """

    origins: ClassVar[frozenset[str]] = frozenset()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.refused = False
        self.in_head, self.begun_here, self.head_bytes = True, False, 0
        self.deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self.begun_here = False
        self._feed(data)
        if not self.in_head:
            self._stop_waiting()
            return
        # Before a head that began in this data, there may be the end of another request.
        self.head_bytes = self._begun_in(data) if self.begun_here else self.head_bytes + len(data)
        if self.head_bytes > HEAD_BYTES or len(self.headers or ()) > HEAD_LINES:
            self._refuse(*TOO_LARGE)
        elif (self.deadline is None or self.begun_here) and not self.transport.is_closing():
            self._stop_waiting()
            self.deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _begun_in(self, data: bytes) -> int:
        """How much there is of a head that began in this data and isn't whole: its lines, and the beginning of one."""
        line_ends = data.rfind(b"\n") + 1
        return len(data) - line_ends + (self._size_of_lines() if line_ends else 0)

    def _size_of_lines(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_message_begin(self) -> None:
        self.in_head = self.begun_here = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.in_head = False
        if fault := self._fault_of_head():
            self._refuse(*fault)
        else:
            super().on_headers_complete()

    def _fault_of_head(self) -> tuple[int, str, str] | None:
        """What is wrong with a head that parses: status, type and message of the error."""
        if len(self.headers) > HEAD_LINES or self._size_of_lines() > HEAD_BYTES:
            return TOO_LARGE
        if self.parser.get_method() == b"CONNECT":
            return 405, "invalid_request_error", "CONNECT is not served here."
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and (b"host" in names or self.parser.get_http_version() == "1.1"):
            return 400, "invalid_request_error", "host: The request must have this header once."
        encodings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if encodings not in ([], [b"chunked"]):
            return 501, "invalid_request_error", "transfer-encoding: Only chunked is served here."
        return None

    def on_body(self, body: bytes) -> None:
        if not self.refused:
            super().on_body(body)

    def _stop_waiting(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _give_up(self) -> None:
        self.deadline = None
        if not self.transport.is_closing():
            self._refuse(408, "invalid_request_error", "The request's headers did not come in time.")

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._stop_waiting()
        self.refused = True
        body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
        head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        allowed = b"".join(b"%b: %b\r\n" % header for header in self._allowance())
        self.transport.write(head.encode() + allowed + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _allowance(self) -> cors.Headers:
        """What lets a page read a refusal, as far as the head is there."""
        # Before a head has begun, there are no headers and no address.
        if not (self.origins and self.headers):
            return []
        if not cors.PATHS.fullmatch(self.url.partition(b"?")[0].decode("latin-1")):
            return []
        return [*cors.allowance(self.origins, dict(self.headers).get(b"origin")), cors.VARY]

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            # Each turn takes one request with an offer off the data: of several behind each other, none nests.
            while (offered := self._parse(rest)) is not None and not self.refused:
                rest = rest[offered:]
                self._forget_offer()
        except httptools.HttpParserError:
            if self.refused:
                return
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _parse(self, data: memoryview) -> int | None:
        """Read data; where a head in it offers another protocol, only as far as that head, and say how far that is."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            taken: int = offered.args[0]
            return taken
        return None

    def on_message_complete(self) -> None:
        # Of a head with an offer, this is the end of the head only.
        if not (self.refused or self.parser.should_upgrade()):
            super().on_message_complete()

    def _forget_offer(self) -> None:
        """Go on as if there had been no offer: a new parser, which gets the head once more without it."""
        head = [self.parser.get_method() + b" / HTTP/1.1\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in self.headers if name not in OFFERS]
        self.parser = httptools.HttpRequestParser(Listener(self))
        self.parser.feed_data(b"".join([*head, b"\r\n"]))


class Listener:
    """Tells uvicorn what a parser finds, but for the end of the first head, which it knows."""

    def __init__(self, protocol: Http) -> None:
        self.on_message_begin = protocol.on_message_begin
        self.on_url = protocol.on_url
        self.on_header = protocol.on_header
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self._head_is_known = True
        self.protocol = protocol

    def on_headers_complete(self) -> None:
        if self._head_is_known:
            self._head_is_known = False
            self.protocol.in_head = False
        else:
            self.protocol.on_headers_complete()
