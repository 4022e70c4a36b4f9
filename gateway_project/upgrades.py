"""HTTP/1.1 for clients that offer to change to HTTP/2 or WebSocket.

Java's own client sends `Upgrade: h2c` with every request that it makes without TLS. A server may ignore that, but
httptools takes what follows the head for another protocol, so that uvicorn calls the application with an empty body.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFERS = {b"upgrade", b"connection", b"http2-settings"}


class Http(HttpToolsProtocol):
    """uvicorn's protocol, deaf to offers of another one."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            self._go_on(data[offered.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def on_message_complete(self) -> None:
        # Of a head with an offer, this is the end of the head only.
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _go_on(self, rest: bytes) -> None:
        """Read the rest as if there had been no offer: a new parser, which is told the head again without it."""
        head = [self.parser.get_method() + b" / HTTP/1.1\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in self.headers if name not in OFFERS]
        self.parser = httptools.HttpRequestParser(Listener(self))
        self.data_received(b"".join([*head, b"\r\n", rest]))


class Listener:
    """Tells uvicorn what a parser finds, but for the end of the first head, which it knows."""

    def __init__(self, protocol: Http) -> None:
        self.on_message_begin = protocol.on_message_begin
        self.on_url = protocol.on_url
        self.on_header = protocol.on_header
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self._head_is_known = True
        self._on_headers_complete = protocol.on_headers_complete

    def on_headers_complete(self) -> None:
        if self._head_is_known:
            self._head_is_known = False
        else:
            self._on_headers_complete()
