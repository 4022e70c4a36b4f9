"""Pages for people, with limits on a request's size and duration, and on the number of pages at work.

Django writes bodies of any length to temporary files, waits for them without limit, and works on any number of pages at
once, each in its own thread with its own database connection. This module reads the body before Django does, and lets
each page wait for one of a few permanent threads. Each thread keeps its database connection, so that a page opens no
new one, and the number of connections never exceeds the number of threads. Exports are sent in pieces, each of which
borrows a thread (keys/exports.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from administration.analytics import errors as report_errors
from administration.analytics.paths import is_report
from administration.rest import errors
from gateway_project import content_security
from gateway_project.askers import asker_of
from gateway_project.turns import Full, Places, Turns
from keys import exports
from keys.client_address import network_of
from messages_api.server import known_callers

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

# Programs send the administration's REST API bodies with more methods than browsers send pages.
METHODS_WITH_BODY = {True: ("POST", "PUT", "PATCH", "DELETE"), False: ("POST",)}
# Seconds for the whole body to arrive.
BODY_SECONDS = 30
# Bodies above SHORT_BODY are read into memory only if fewer than LONG_BODIES are in memory. Ordinary forms are shorter.
SHORT_BODY = 64 * 1024
LONG_BODIES = 4
# Requests that may wait for a thread, those of one network among them (turns.py), seconds that each may wait, and the
# `retry-after` of a refused one.
WAITING = 256
WAITING_OF_ONE = 64
WAIT_SECONDS = 10
RETRY_SECONDS = 5
# Exports that are sent at once, those of one session or token among them, and seconds that a piece of one may wait for
# a thread.
EXPORTS = 8
EXPORTS_OF_ONE = 4
PIECES = "pieces of exports"  # they take turns like a network
PIECE_SECONDS = 60
# A limit for statements of pages, because a person's search may take the database hours.
STATEMENT_SECONDS = 30


# Where a request's scope has the pieces of an export.
EXPORT = "bursar.export"


class PageRefused(Exception):
    """A request that is refused before Django sees it.

    Attributes:
        closes: close the connection after the answer, because more of the request may be on its way.
    """

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.closes = closes


class Gone(Exception):
    """The client disconnected before its request was complete."""


class Handler(ASGIHandler):
    """Django's handler, which runs all synchronous code in one turn of the page's thread instead of one turn per
    middleware."""

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response)(request)
        if isinstance(response, exports.Export):
            # The page's thread is free before the first piece is made.
            request.scope[EXPORT] = response.take()  # type: ignore[attr-defined]
        return response


class Pages:
    """An ASGI application that puts the limits around the application for pages.

    Args:
        at_once: how many pages are worked on at once.
        most_bytes: the largest body.
    """

    def __init__(self, application: Application, *, at_once: int, most_bytes: int) -> None:
        self.application = application
        self.most_bytes = most_bytes
        self.long_bodies = 0
        self.exports = Places(EXPORTS, EXPORTS_OF_ONE)
        self.waiting = Places(WAITING, WAITING_OF_ONE)
        self.threads = Turns([ThreadPoolExecutor(max_workers=1, thread_name_prefix="page") for _ in range(at_once)])

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            async with self._body(scope, receive) as body:
                answer, export = await self._answer(scope, body, receive)
        except Gone:
            return
        except PageRefused as refusal:
            await say(send, refusal, scope)
            return
        # The thread is already free here, so that a slow reader doesn't make other pages wait.
        if export is not None:
            await self._export(scope, answer, export, receive, send)
            return
        for message in answer:
            await send(message)

    async def _export(
        self, scope: Any, answer: list[Any], export: exports.Pieces, receive: Receive, send: Send
    ) -> None:
        """Send an export's head, and then its pieces."""
        name = asker_of(scope).hex() or network_of(scope["client"][0])
        async with exports.ending(export, self._piece_thread):
            try:
                with self.exports.taking(name):
                    if answer:
                        await send(answer[0])
                        await exports.send_pieces(export, self._piece_thread, receive, send)
            except Full:
                await say(send, busy(), scope)

    @asynccontextmanager
    async def _body(self, scope: Any, receive: Receive) -> AsyncIterator[bytes]:
        """Read the whole body.

        Raises:
            PageRefused: the body is too long or too slow, or too many long bodies are in memory.
            Gone: the client disconnected.
        """
        limit = self.most_bytes if scope["method"] in METHODS_WITH_BODY[is_rest(scope)] else 0
        if int(dict(scope["headers"]).get(b"content-length") or 0) > limit:
            raise too_large(limit)
        body, long = bytearray(), False
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    async for part in parts(receive):
                        body += part
                        if len(body) > limit:
                            raise too_large(limit)
                        if len(body) > SHORT_BODY and not long:
                            if self.long_bodies >= LONG_BODIES:
                                raise busy(closes=True)
                            self.long_bodies, long = self.long_bodies + 1, True
            except TimeoutError:
                raise too_slow() from None
            yield bytes(body)
        finally:
            self.long_bodies -= long

    async def _answer(self, scope: Any, body: bytes, receive: Receive) -> tuple[list[Any], exports.Pieces | None]:
        """The messages of a page's answer, and the export to send instead of the answer's body, if it is one. There are
        no messages if the client has disconnected.

        Raises:
            PageRefused: no thread became free in time.
        """
        gone = asyncio.ensure_future(receive())
        request = iter([{"type": "http.request", "body": body, "more_body": False}])
        answer: list[Any] = []
        page_scope = known_callers.from_threads(scope)

        async def replay() -> Any:
            return next(request, None) or await asyncio.shield(gone)

        async def keep(message: Any) -> None:
            answer.append(message)

        try:
            async with (
                self._thread(network_of(scope["client"][0]), asker_of(scope)) as thread,
                ThreadSensitiveContext(executor=thread),
            ):
                if not gone.done():
                    await self.application(page_scope, replay, keep)
        finally:
            gone.cancel()
        return answer, page_scope.get(EXPORT)

    @asynccontextmanager
    async def _thread(self, network: str, asker: bytes) -> AsyncIterator[ThreadPoolExecutor]:
        """Reserve a thread for one page.

        Raises:
            PageRefused: no thread became free in time, or too many requests wait.
        """
        try:
            with self.waiting.taking(network):
                async with asyncio.timeout(WAIT_SECONDS):
                    thread = await self.threads.get(network, asker)
        except (TimeoutError, Full):
            raise busy() from None
        try:
            yield thread
        finally:
            self.threads.put(thread)

    @asynccontextmanager
    async def _piece_thread(self) -> AsyncIterator[ThreadPoolExecutor]:
        """Reserve a thread for one piece of an export.

        Raises:
            TimeoutError: no thread became free in time.
        """
        async with asyncio.timeout(PIECE_SECONDS):
            thread = await self.threads.get(PIECES)
        try:
            yield thread
        finally:
            self.threads.put(thread)


def bound_statements(options: MutableMapping[str, Any]) -> None:
    """Have connections with these options of Django's give up a statement that takes too long."""
    options["options"] = f"{options.get('options', '')} -c statement_timeout={STATEMENT_SECONDS}s".strip()


async def parts(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a request's body as they arrive.

    Raises:
        Gone: the client disconnected before the end of the body.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        more = message.get("more_body", False)
        yield message.get("body", b"")


def too_slow() -> PageRefused:
    return PageRefused(408, f"The request's body did not arrive within {BODY_SECONDS} seconds.", closes=True)


def too_large(limit: int) -> PageRefused:
    message = (
        f"The request's body is larger than {limit} bytes."
        if limit
        else "A request with this method must not have a body."
    )
    return PageRefused(413, message, closes=True)


def busy(*, closes: bool = False) -> PageRefused:
    return PageRefused(503, "Too many pages were requested at once: try again in a moment.", closes=closes)


def is_rest(scope: Any) -> bool:
    """Whether the request is for the administration's REST API."""
    path: str = scope["path"]
    return path.startswith(errors.BELOW)


async def say(send: Send, refusal: PageRefused, scope: Any) -> None:
    """Send a refusal as plain text, or in the shape of the errors at the request's path."""
    retry_after = RETRY_SECONDS if refusal.status == 503 else None
    if is_report(scope["path"]):
        answer = report_errors.answer(refusal.status, str(refusal), retry_after)
        headers, body = [*content_security.RESTRICTIONS, *raw(answer)], answer.content
    else:
        rest = is_rest(scope)
        headers = [*(content_security.JSON if rest else content_security.PLAIN)]
        body = errors.text(refusal.status, str(refusal)) if rest else f"{refusal}\n".encode()
        if retry_after is not None:
            headers.append((b"retry-after", b"%d" % retry_after))
    headers.append((b"content-length", b"%d" % len(body)))
    if refusal.closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def raw(answer: HttpResponse) -> list[tuple[bytes, bytes]]:
    """An answer's headers as ASGI has them."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.items()]
