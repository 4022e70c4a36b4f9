"""The ASGI side of the API's paths: a lean stand-in for Django's ASGIHandler, with its URLconf, requests and views.

Django's own handler starts a thread pool, a thread, two tasks and a temporary file for every request, and sends
signals that hop to a thread. Its useful rules hold here too: a client that disconnects cancels the view,
and `response.close()` runs exactly once on every path. A body that arrives in one part isn't copied; several parts are
joined in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, get_resolver
from django.utils.functional import cached_property

from messages_api.server import errors, headers
from messages_api.server.intake import SHORT, Share
from messages_api.server.known_callers import LEAVES
from messages_api.upstream.client import StreamedBody
from messages_api.upstream.time_limit import within
from usage.request_ids import CURRENT, new_id, request_id

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The gateway reads a body of at least this many bytes only for a key that may call.
LONG = 1 << 20

# A body in up to this many parts is joined once.
MOST_PARTS = 8

URLCONF = "messages_api.urls"


class ClientGone(Exception):
    """The client disconnected before its request was complete."""


class CutShort(Exception):
    """An answer ended early. Its connection is closed, so that no client takes it for complete."""


class ApiRequest(ASGIRequest):
    """A request whose body the view reads, once it knows the caller.

    Most calls need little of what Django's `__init__` makes, which took 4 % of a call. `META` is made on first use.
    """

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self.scope = scope
        self.path = scope["path"]
        self.script_name = get_script_prefix(scope)
        self.path_info = self.path.removeprefix(self.script_name)
        self.method = scope["method"].upper()
        self.resolver_match = None
        self.id = new_id()
        self.receive = receive
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.watcher: asyncio.Task[None] | None = None
        self.body_is_read = False
        # When the whole body had arrived, by the monotonic clock; 0: it hasn't.
        self.read_at = 0.0
        self.client_gone = False
        self.answered = False
        # Its share of the process's memory for bodies, once the caller is known.
        self.share: Share | None = None
        # Called when the request is over, on every path.
        self.at_end: list[Callable[[], None]] = []
        # For the log of refusals; empty if unknown.
        self.credential_hint = ""
        self.virtual_key: int | None = None
        self.requested_model = ""
        # A call of it has ended; an error that its client gets is the call's, not a refusal.
        self.called = False

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        made: dict[str, Any] = ASGIRequest(self.scope, BytesIO()).META
        return made

    @property
    def length(self) -> int | None:
        """The length of the body by its header; None: it has none."""
        written = headers.value_of(self.scope["headers"], b"content-length")
        return int(written) if written else None

    def refuse_what_cannot_be_read(self, limit: int) -> None:
        """Check the headers of the body.

        Raises:
            GatewayError: 413, it will be longer than `limit` bytes; 400, it is compressed.
        """
        if (self.length or 0) > limit:
            raise too_large(limit)
        if headers.value_of(self.scope["headers"], b"content-encoding").lower() not in ("", "identity"):
            raise errors.GatewayError(
                400,
                "invalid_request_error",
                "The request body is compressed: send it as it is.",
                reason="compressed",
                details={"error_code": "request_body_encoding_unsupported"},
            )

    @property
    def may_be_long(self) -> bool:
        """Whether to ask the arbiter about the caller before the body is read: it is long, or of unknown length."""
        return (self.length or LONG) >= LONG

    async def parts(
        self, limit: int, *, watch: bool = True, kept: bool = True, understood: bool = True
    ) -> AsyncIterator[bytes]:
        """The body while it arrives.

        Args:
            watch: once the body is complete, a client that disconnects cancels the view.
            kept: the body stays in memory until the request is answered, and counts towards the process's memory for
                bodies.
            understood: once the body is complete, the next body of the key may be read; otherwise, once
                `note_understood` is called.

        Raises:
            GatewayError: 413, it is longer than `limit` bytes; 408, it stalls, or arrives too slowly; 429 or 503, there
                is no memory for it.
            ClientGone: the client disconnected before its end.
        """
        loop, pace, share, size, more = self.task.get_loop(), Pace(), self.share, 0, True
        if share is not None and (announced := self.length or 0) > SHORT:
            await share.take(announced if kept else 0)
        while more:
            began = loop.time()
            try:
                with within(pace.patience(size), loop):
                    message = await self.receive()
            except TimeoutError:
                raise pace.too_slow() from None
            pace.waited += loop.time() - began
            if message["type"] == "http.disconnect":
                self.client_gone = True
                raise ClientGone
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > limit:
                raise too_large(limit)
            if share is not None and (more or size > SHORT):
                await share.take(size if kept else 0)
            yield part
        self.read_at = time.monotonic()
        if understood:
            self.note_understood()
        if watch:
            self._watch()

    def stream_body(self, limit: int, *, watch: bool = True) -> StreamedBody:
        """The body on its way to a provider; arguments and errors are those of `parts`."""
        return StreamedBody(self.parts(limit, watch=watch, kept=False), self.length)

    async def read_body(self, limit: int, *, understood: bool = True) -> bytes:
        """Read the whole body. From then on, a client that disconnects cancels the view.

        Args:
            understood: as for `parts`.

        Raises:
            GatewayError, ClientGone: as `parts`.
        """
        # Few parts are joined once. Of many, no list is kept: parts of a byte would take forty times its memory.
        parts = list[bytes | bytearray]()
        async for part in self.parts(limit, understood=understood):
            if len(parts) == MOST_PARTS:
                parts = [bytearray().join(parts)]
            if parts and isinstance(parts[0], bytearray):
                parts[0] += part
            else:
                parts.append(part)
        self._body = parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
        self.body_is_read = True
        return self._body

    def note_understood(self) -> None:
        """Note that the body has been read and parsed: the next body of its key may be read."""
        if self.share is not None:
            self.share.complete()

    def forget_body(self) -> None:
        """Note that the body is no longer needed."""
        self._body = b""
        if self.share is not None:
            self.share.let_go()

    def _watch(self) -> None:
        """Cancel the view if the client disconnects."""
        when_it_leaves = self.scope.get("state", {}).get(LEAVES)
        if when_it_leaves is not None:
            when_it_leaves(self._leave)
        else:
            self.watcher = self.task.get_loop().create_task(self._wait_for_leaving())

    async def _wait_for_leaving(self) -> None:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self._leave()

    def _leave(self) -> None:
        if not self.answered:
            self.client_gone = True
            self.task.cancel()


class Pace:
    """The slowest pace of a body: each part within a grace period and, after that period, a minimum rate overall. Only
    the time spent waiting for the client counts.
    """

    __slots__ = ("grace", "rate", "waited")

    def __init__(self) -> None:
        configuration = settings.CONFIGURATION
        self.grace: float = configuration.body_grace_seconds
        self.rate: int = configuration.body_bytes_per_second
        self.waited = 0.0

    def patience(self, size: int) -> float:
        """Seconds that the next part may take, after this many bytes."""
        return min(self.grace, self.grace + size / self.rate - self.waited)

    def too_slow(self) -> errors.GatewayError:
        return errors.invalid_request(
            f"The rest of the request body did not arrive in time: send some of it every {self.grace:g} seconds, and"
            f" {self.rate} bytes a second on average.",
            reason="stalled",
            status=408,
        )


def too_large(limit: int) -> errors.GatewayError:
    return errors.GatewayError(
        413, "request_too_large", f"The request body is larger than {limit} bytes.", reason="too_large"
    )


class RawResponse(HttpResponseBase):
    """An answer whose headers and body are sent unchanged."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        # Without Django's __init__, which prepares for headers, cookies and an encoding that this answer never has.
        self.status_code = status
        self.closed = False
        self.raw_headers = headers
        self.body = body

    def close(self) -> None:
        # Without Django's signal: no ORM connection was opened for this request.
        self.closed = True


class PumpedResponse(RawResponse):
    """An answer that sends its own body."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(status, headers, b"")

    async def pump(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send the body, piece by piece. The caller of this function sends its end.

        Raises:
            CutShort: the body has no proper end.
        """
        raise NotImplementedError


def load_views() -> None:
    """Import the views now; otherwise the first request waits for this."""
    resolve("/v1/messages")


def resolve(path: str) -> ResolverMatch | None:
    """The view of a path. Common paths are cached."""
    return _resolve(path) if len(path) < 200 else None


@lru_cache(maxsize=1024)
def _resolve(path: str) -> ResolverMatch | None:
    try:
        return get_resolver(URLCONF).resolve(path)
    except Resolver404:
        return None


async def handle(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one HTTP request to the API."""
    request = ApiRequest(scope, receive)
    CURRENT.set(request.id)
    response: HttpResponseBase | None = None
    try:
        response = await answer(request)
        await respond(request, response, send)
    except (ClientGone, CutShort):
        pass
    except asyncio.CancelledError:
        request.task.uncancel()
        if not request.client_gone and response is None:  # the server stops
            response = errors.response(errors.interrupted(cut=False), request.id)
            await respond(request, response, send)
    finally:
        if request.watcher is not None:
            request.watcher.cancel()
        request.forget_body()
        for done in request.at_end:
            done()
        if response is not None:
            response.close()


async def answer(request: ApiRequest) -> HttpResponseBase:
    """The view's response. An unexpected exception becomes the gateway's own 500; only the log says where it was
    raised.
    """
    match = resolve(request.path_info)
    try:
        if match is None:
            raise errors.not_found(f"There is nothing at {request.path[:200]}.", reason="no_endpoint")
        request.resolver_match = match
        response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
        return response
    except ClientGone:
        raise
    except errors.GatewayError as error:
        return errors.response(error, request.id)
    except Exception as error:
        # The exception's text may quote a body: its type and place are enough to find the fault.
        logger.error("call %s failed: %s", request_id(request.id), place(error))
        return errors.response(
            errors.unavailable("Internal error of the gateway.", reason="internal", status=500), request.id
        )


def place(error: BaseException) -> str:
    """An exception's type, and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + where


async def respond(request: ApiRequest, response: HttpResponseBase, send: Send) -> None:
    if isinstance(response, RawResponse):
        given, body = response.raw_headers, response.body
    else:
        assert isinstance(response, HttpResponse)
        body = response.content
        given = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
        given.append((b"content-length", b"%d" % len(body)))
    start = {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": [*given, headers.NO_SNIFFING],
    }
    if isinstance(response, PumpedResponse):
        # Once an answer has begun, no further attempt is made.
        request.forget_body()
        await send(start)
        await response.pump(lambda part: send({"type": "http.response.body", "body": part, "more_body": True}))
        request.answered = True
        await send({"type": "http.response.body", "body": b""})
    else:
        request.answered = True
        await send(start)
        await send({"type": "http.response.body", "body": body})
