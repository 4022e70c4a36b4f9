"""Pages for people, within bounds: what a request may bring and how long it may take, and how many are worked on.

Django takes bodies of any length into temporary files, for as long as they come, and works on as many pages at once as
are asked for, each in a thread and with a database connection of its own. Here a body is read before Django sees it,
and a page waits for one of a few threads that are always there. Each thread keeps its connection, so that a page costs
no new one, and all pages together never have more than there are threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gateway_project import content_security

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

# Until the whole body is there.
BODY_SECONDS = 30
# A longer body is held in memory only while few others are; forms that people fill in are shorter.
SHORT_BODY = 64 * 1024
LONG_BODIES = 4
# For a thread: how many requests may wait, and each of them how long.
WAITING = 256
WAIT_SECONDS = 10
RETRY_SECONDS = 5
# For a statement of a page: what somebody looks for may take the database hours.
STATEMENT_SECONDS = 30


class Refused(Exception):
    """A request that no page is made for.

    Attributes:
        closes: whether the connection ends with the answer, for more of the request may be on its way.
    """

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.closes = closes


class Gone(Exception):
    """The client hung up before its request was complete."""


class Handler(ASGIHandler):
    """Django's own, with everything that isn't asynchronous in one turn of the page's thread, not one for each
    middleware."""

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response)(request)
        return response


class Pages:
    """An application for pages, within bounds.

    Args:
        at_once: pages that are worked on.
        most_bytes: of a body.
    """

    def __init__(self, application: Application, *, at_once: int, most_bytes: int) -> None:
        self.application = application
        self.most_bytes = most_bytes
        self.long_bodies = 0
        self.waiting = 0
        # The thread that was used last comes first: the others' connections are for when there is more to do.
        self.threads: asyncio.LifoQueue[ThreadPoolExecutor] = asyncio.LifoQueue()
        for _ in range(at_once):
            self.threads.put_nowait(ThreadPoolExecutor(max_workers=1, thread_name_prefix="page"))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            async with self._body(scope, receive) as body:
                answer = await self._answer(scope, body, receive)
        except Gone:
            return
        except Refused as refusal:
            await say(send, refusal)
            return
        # By now the thread is free again: however slowly the client reads, no other page waits for that.
        for message in answer:
            await send(message)

    @asynccontextmanager
    async def _body(self, scope: Any, receive: Receive) -> AsyncIterator[bytes]:
        """The whole body.

        Raises:
            Refused: it is too long, too slow, or one of too many.
            Gone: it won't come.
        """
        limit = self.most_bytes if scope["method"] == "POST" else 0
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

    async def _answer(self, scope: Any, body: bytes, receive: Receive) -> list[Any]:
        """The messages of a page's answer; none to a client that is gone.

        Raises:
            Refused: no thread got free in time.
        """
        gone = asyncio.ensure_future(receive())
        request = iter([{"type": "http.request", "body": body, "more_body": False}])
        answer: list[Any] = []

        async def replay() -> Any:
            return next(request, None) or await asyncio.shield(gone)

        async def keep(message: Any) -> None:
            answer.append(message)

        try:
            async with self._thread() as thread, ThreadSensitiveContext(executor=thread):
                if not gone.done():
                    await self.application(scope, replay, keep)
        finally:
            gone.cancel()
        return answer

    @asynccontextmanager
    async def _thread(self) -> AsyncIterator[ThreadPoolExecutor]:
        """A thread of one's own.

        Raises:
            Refused: there is none for it.
        """
        if self.waiting >= WAITING:
            raise busy()
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                thread = await self.threads.get()
        except TimeoutError:
            raise busy() from None
        finally:
            self.waiting -= 1
        try:
            yield thread
        finally:
            self.threads.put_nowait(thread)


def bound_statements(options: MutableMapping[str, Any]) -> None:
    """Have connections with these options of Django's give up a statement that takes too long."""
    options["options"] = f"{options.get('options', '')} -c statement_timeout={STATEMENT_SECONDS}s".strip()


async def parts(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body as it comes.

    Raises:
        Gone: it won't come to its end.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        more = message.get("more_body", False)
        yield message.get("body", b"")


def too_slow() -> Refused:
    return Refused(408, f"The request's body did not come within {BODY_SECONDS} seconds.", closes=True)


def too_large(limit: int) -> Refused:
    message = f"The request's body is larger than {limit} bytes." if limit else "This request may have no body."
    return Refused(413, message, closes=True)


def busy(*, closes: bool = False) -> Refused:
    return Refused(503, "Too many pages are asked for at once: try again in a moment.", closes=closes)


async def say(send: Send, refusal: Refused) -> None:
    """A refusal as a page of plain text."""
    body = f"{refusal}\n".encode()
    headers = [*content_security.PLAIN, (b"content-length", b"%d" % len(body))]
    if refusal.status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_SECONDS))
    if refusal.closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
