"""uvicorn's HTTP/1.1, with limits on what unauthenticated clients can send, and without protocol upgrades.

uvicorn accepts heads of any length, waits for them without limit, and queues as many pipelined requests as a client
sends. Also, Java's own client sends `Upgrade: h2c` with every request without TLS. A server may ignore that offer, but
httptools treats the bytes after the head as another protocol, so uvicorn calls the application with an empty body.
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway_project.http_cycle import Cycle
from gateway_project.logs import LOGGED
from keys.alarms import Timer
from messages_api.server import cors
from messages_api.server.known_callers import KNOWN, LEAVES

# Limits of a request's head (request line and headers): bytes, lines, and seconds until it is complete. Until then, the
# client is unauthenticated.
HEAD_BYTES = 96 * 1024
HEAD_LINES = 1000
HEAD_SECONDS = 10
TOO_LARGE = 431, "request_too_large", "The request's headers are too large."

# Pipelined requests of a connection that wait for their turn. From this number on, the parser gets no more data. It
# can't stop in the middle of its input, so it gets small pieces; the last piece may contain further requests. What can
# only be the rest of a body of known length is one piece: each piece costs three microseconds.
WAITING = 16
PIECE = 4096

# Chunks and headers that are read of a connection in one turn of the loop, with those of one more piece at most. Each
# takes a microsecond, however few bytes it has, and uvloop reads up to 256 kB at once.
PARTS = 1000

# Seconds within which a client must read some part of an answer that waits for it.
READ_SECONDS = 120

# The most connections of a process without a call of an identified caller: they wait for a request, for the rest of
# one, or for the client to read the answer. Beyond that, the one that has waited longest is closed. They may take a
# quarter of the files that the process may open, because each call to a provider and each connection to the database
# needs one, too.
STRANGERS = 4000
OTHER_FILES = 128

OFFERS = {b"upgrade", b"connection", b"http2-settings"}


class Flow(FlowControl):
    """uvicorn's flow control, which can be held: uvicorn itself resumes reading after each answer and for each call."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class Http(HttpToolsProtocol):
    """uvicorn's protocol, with limited heads and queues. It ignores offers of another protocol.

    Attributes:
        origins: the origins (CORS_ORIGINS) whose pages may read a refusal.
    """

    origins: ClassVar[frozenset[str]] = frozenset()
    # The connections without a call of an identified caller, the one that has waited longest first.
    strangers: ClassVar[dict[Http, None]] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_stranger()
        self.flow: Flow = Flow(transport)
        self.refused, self.refusal = False, b""
        self.state = {**self.app_state, LOGGED: set[tuple[object, ...]](), KNOWN: self._is_known, LEAVES: self._tell}
        self.running: Cycle | None = None
        self.cycle: Cycle = None  # type: ignore[assignment]
        self.timeout_keep_alive_task: Timer | None = None  # type: ignore[assignment]
        self.unread = memoryview(b"")
        self.parts, self.next_turn = 0, False
        self.in_head, self.begun_here, self.head_bytes, self.line_bytes = True, False, 0, 0
        self.body_here, self.beside_body, self.body_left = False, 0, 0
        self.deadline: Timer | None = Timer(self.loop, HEAD_SECONDS, self._give_up)
        self.reader_check: asyncio.TimerHandle | None = None

    def _is_stranger(self) -> None:
        """Count this connection among those without an identified caller, and close the oldest if they are too many."""
        if self.transport.is_closing():
            return
        strangers = self.strangers
        strangers.pop(self, None)
        strangers[self] = None
        if len(strangers) > most_strangers():
            oldest = next(iter(strangers))
            del strangers[oldest]
            oldest.transport.abort()

    def _is_known(self) -> None:
        self.strangers.pop(self, None)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_known()
        self._stop_waiting()
        self._stop_watching()
        self._drop_queue()
        super().connection_lost(error)
        # uvicorn tells only the last request about the disconnect; that one may still wait for its turn.
        if self.running is not None and not self.running.response_complete:
            self.running.disconnect()
        self.state = {}  # it refers to this object

    def _tell(self, gone: Callable[[], None]) -> None:
        """Call a function if the client disconnects before it has the answer to the request that runs now."""
        cycle = self.running
        if cycle is None or cycle.disconnected:
            self.loop.call_soon(gone)
        else:
            self.flow.resume_reading()
            cycle.gone = gone

    def data_received(self, data: bytes) -> None:
        # Reading is paused while data is unread, so `unread` stays small.
        self.unread = memoryview(bytes(self.unread) + data if self.unread else data)
        self._read_on()

    def _read_on(self) -> None:
        """Feed the parser for one turn, while few requests wait; else keep the data and pause reading."""
        self.parts = 0
        while self._has_work() and self.parts < PARTS:
            size = max(PIECE, self.body_left)
            piece, self.unread = self.unread[:size], self.unread[size:]
            self._read(piece)
        if self.refused or self.transport.is_closing():
            self.unread = memoryview(b"")
        elif self.unread or self.pipeline:
            self.flow.held = True
            self.flow.pause_reading()
            # While reading is paused, the client can't complete the head: stop its timeout.
            self._stop_waiting()
            if self._has_work() and not self.next_turn:
                self.next_turn = True
                self.loop.call_soon(self._take_turn)

    def _has_work(self) -> bool:
        """Whether there is data that the parser may get now."""
        few = len(self.pipeline) < WAITING
        return bool(self.unread) and few and not self.refused and not self.transport.is_closing()

    def _take_turn(self) -> None:
        self.next_turn = False
        if self._has_work():
            self._read_on()
            self._resume()

    def _resume(self) -> None:
        """Read from the client again, unless something is still to be parsed or answered."""
        if not self.flow.held or self.unread or self.pipeline:
            return
        self.flow.held = False
        cycle = self.cycle
        # uvicorn itself resumes once the application has taken a long part of a body.
        if cycle is None or cycle.response_complete or cycle.waiting <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        if self.in_head and self.deadline is None and not self.refused:
            self._wait_for_head()

    def _read(self, data: memoryview) -> None:
        self.begun_here = self.body_here = False
        self._feed(data)
        if self.refused:
            return
        if not self.in_head:
            self._stop_waiting()
            self._bound_rest(len(data))
            return
        # If the head began in this data, the data may start with the end of the request before it.
        self.head_bytes = self._begun_in(bytes(data)) if self.begun_here else self.head_bytes + len(data)
        if self.head_bytes > HEAD_BYTES or len(self.headers or ()) > HEAD_LINES:
            self._refuse(*TOO_LARGE)
        elif self.deadline is None or self.begun_here:
            self._wait_for_head()

    def _bound_rest(self, size: int) -> None:
        """Close the connection if its client sends more and more that is neither head nor body: trailers, or what may
        be written beside a chunk's length."""
        self.beside_body = 0 if self.body_here or self.begun_here else self.beside_body + size
        if self.beside_body > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's trailers are too large.")

    def on_response_complete(self) -> None:
        self._is_stranger()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._drop_queue()
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.timeout_keep_alive_task = Timer(self.loop, self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if not self.pipeline:
            self._read_on()
            self._resume()
            if self.refused:
                self._say_refusal()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        self._is_stranger()
        super()._start_asgi_task(cycle, app)

    def _drop_queue(self) -> None:
        self.pipeline.clear()
        self.unread = memoryview(b"")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(None)

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch_reader(self, before: int | None) -> None:
        """Abort the connection if the client has read nothing since `before` bytes were waiting to be written."""
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.reader_check = None
            self.transport.abort()
        else:
            self.reader_check = self.loop.call_later(READ_SECONDS, self._watch_reader, left)

    def _stop_watching(self) -> None:
        if self.reader_check is not None:
            self.reader_check.cancel()
            self.reader_check = None

    def _begun_in(self, data: bytes) -> int:
        """The size so far of an incomplete head that began in this data: complete lines, and the start of the next."""
        line_ends = data.rfind(b"\n") + 1
        return len(data) - line_ends + (len(self.url) + self.line_bytes if line_ends else 0)

    def on_message_begin(self) -> None:
        self.in_head, self.begun_here, self.body_left, self.line_bytes = True, True, 0, 0
        super().on_message_begin()
        self.scope["state"] = self.state.copy()

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.refused:
            return
        if fault := self._fault_of_head():
            self._refuse(*fault)
        else:
            self._begin_answer()

    def _begin_answer(self) -> None:
        """Begin to answer a request whose head is complete, or queue it: uvicorn's own, for our cycle."""
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            expects_100=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _fault_of_head(self) -> tuple[int, str, str] | None:
        """The fault of a head that parses but isn't acceptable: status, type and message of the error. The length of
        the body is noted."""
        if len(self.headers) > HEAD_LINES or len(self.url) + self.line_bytes > HEAD_BYTES:
            return TOO_LARGE
        if self.parser.get_method() == b"CONNECT":
            return 405, "invalid_request_error", "CONNECT is not supported."
        hosts, encodings = 0, []
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length" and not self.body_left:
                self.body_left = int(value)  # the parser has checked it
            elif name == b"transfer-encoding":
                encodings.append(value.strip().lower())
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            return 400, "invalid_request_error", "host: The request must have this header exactly once."
        if encodings and encodings != [b"chunked"]:
            return 501, "invalid_request_error", "transfer-encoding: Only chunked is supported."
        return None

    def on_header(self, name: bytes, value: bytes) -> None:
        self.parts += 1
        # Trailers come when the request is already being answered by its headers: they are none.
        if self.in_head:
            name = name.lower()
            self.line_bytes += len(name) + len(value) + 4
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.parts += 1
        self.body_here = True
        self.body_left = max(0, self.body_left - len(body))
        cycle = self.cycle
        if not (self.refused or cycle.response_complete):
            cycle.add(body)
            if cycle.waiting > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    def _stop_waiting(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _wait_for_head(self) -> None:
        if not self.transport.is_closing():
            self._stop_waiting()
            self.deadline = Timer(self.loop, HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self.deadline = None
        if not self.transport.is_closing():
            self._refuse(
                408, "invalid_request_error", f"The request's headers did not arrive within {HEAD_SECONDS} seconds."
            )

    def _refuse(self, status: int, kind: str, message: str) -> None:
        if self.refused:
            return
        self._stop_waiting()
        body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
        head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        allowed = b"".join(b"%b: %b\r\n" % header for header in self._allowance())
        self.refused, self.refusal = True, head.encode() + allowed + b"connection: close\r\n\r\n" + body
        self._say_refusal()

    def _say_refusal(self) -> None:
        """Send the refusal and close the connection, unless earlier requests still wait for their answers."""
        answered = self.running is None or self.running.response_complete
        if self.refused and answered and not self.pipeline and not self.transport.is_closing():
            self.transport.write(self.refusal)
            self.transport.close()

    def _allowance(self) -> cors.Headers:
        """The CORS headers that let a page read a refusal, if the head has arrived."""
        # If no head has begun, there are neither headers nor a URL.
        if not (self.origins and self.headers):
            return []
        if not cors.PATHS.fullmatch(self.url.partition(b"?")[0].decode("latin-1")):
            return []
        return [*cors.allowance(self.origins, dict(self.headers).get(b"origin")), cors.VARY]

    def _feed(self, rest: memoryview) -> None:
        self._unset_keepalive_if_required()
        try:
            # A loop rather than recursion: each turn handles one of several pipelined requests that offer an upgrade.
            while (offered := self._parse(rest)) is not None and not self.refused:
                rest = rest[offered:]
                self._forget_offer()
        except httptools.HttpParserError:
            if self.refused:
                return
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _parse(self, data: memoryview) -> int | None:
        """Parse data. If a head offers another protocol, stop after that head and return its end, else None."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            taken: int = offered.args[0]
            return taken
        return None

    def on_message_complete(self) -> None:
        # After a head with an offer, httptools reports the end of the message, but it is only the end of the head.
        if not (self.refused or self.parser.should_upgrade()):
            super().on_message_complete()

    def _forget_offer(self) -> None:
        """Continue as if there had been no offer: feed the head without it to a new parser."""
        head = [self.parser.get_method() + b" / HTTP/1.1\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in self.headers if name not in OFFERS]
        self.parser = httptools.HttpRequestParser(Listener(self))
        self.parser.feed_data(b"".join([*head, b"\r\n"]))


@cache
def most_strangers() -> int:
    """The most connections without a call of an identified caller. The process's limit of files doesn't change."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return STRANGERS if files == resource.RLIM_INFINITY else max(1, min(STRANGERS, (files - OTHER_FILES) // 4))


class Listener:
    """Passes a parser's events on to uvicorn, except for the end of the first head, which uvicorn has already seen."""

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
