"""Pages in a process of their own, behind the port of the API.

If a machine serves both, the web processes send requests for pages to this process through a Unix socket, so that no
page takes time from a call. Only the gateway's user can connect to the socket. So the page process believes what the
web processes say about a client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import httpcore

from gateway_project.askers import session_of
from gateway_project.pages import (
    LONG_BODIES,
    SHORT_BODY,
    WAIT_SECONDS,
    WAITING,
    WAITING_OF_ONE,
    Gone,
    PageRefused,
    busy,
    parts,
    say,
)
from gateway_project.turns import Full, Places
from keys.client_address import as_pages_see_it, network_of
from messages_api.server import known_callers
from usage.request_ids import CURRENT

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Set by the web process: the client's address, and `http` or `https`.
CLIENT = b"x-bursar-client"
SCHEME = b"x-bursar-scheme"
# Set by the web process: the request's id, in hex digits.
REQUEST = b"x-bursar-request"
# Set by the page process: the request has a valid session, or a valid token of the REST API.
KNOWN = b"x-bursar-known"
OURS = {CLIENT, SCHEME, REQUEST, KNOWN}
# Headers about one connection.
HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"}

# Sessions that a page process has found valid, by a digest of their key. The next request of such a session counts as
# an identified caller's from its beginning.
SESSIONS = 1000
# Seconds without a byte of the answer. While the page process is replaced, requests wait in its socket's queue.
ANSWER_SECONDS = 120.0
TIMEOUTS = {"connect": WAIT_SECONDS, "pool": WAIT_SECONDS, "read": ANSWER_SECONDS, "write": ANSWER_SECONDS}
AWAY = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError)


class PageProcess:
    """An ASGI application that has the page process answer.

    Args:
        path: the Unix socket on which the page process listens.
    """

    def __init__(self, path: str) -> None:
        self.connections = httpcore.AsyncConnectionPool(
            uds=path, max_connections=WAITING, max_keepalive_connections=4, keepalive_expiry=5.0
        )
        self.sessions: OrderedDict[bytes, None] = OrderedDict()
        self.places = Places(WAITING, WAITING_OF_ONE)
        self.long_bodies = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        session = session_of(scope["headers"])
        if session in self.sessions:
            known_callers.note(scope)
        scope = as_pages_see_it(scope)
        try:
            with self.places.taking(network_of(scope["client"][0])):
                await self._relay(scope, session, receive, send)
        except Full:
            await say(send, busy(), scope)

    async def _relay(self, scope: Any, session: bytes, receive: Receive, send: Send) -> None:
        """Send the page process's answer."""
        try:
            async with self._answer(scope, receive) as (answer, leaving):
                self._note(scope, session, answer.headers)
                headers = [(name, value) for name, value in answer.headers if name.lower() not in HOP | OURS]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                with contextlib.suppress(*AWAY):
                    async for part in answer.aiter_stream():
                        if leaving.done():  # `send` would discard the rest of a long export
                            return
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                    await send({"type": "http.response.body", "body": b""})
        except Gone:
            return
        except PageRefused as refusal:
            await say(send, refusal, scope)

    @contextlib.asynccontextmanager
    async def _answer(
        self, scope: Any, receive: Receive
    ) -> AsyncIterator[tuple[httpcore.Response, asyncio.Future[None]]]:
        """Send the request to the page process, and wait for the head of its answer. The future is done once the client
        has disconnected.

        Raises:
            PageRefused: the process can't be reached, too many requests wait for it, or too many of them are long.
            Gone: the client disconnected.
        """
        body, is_long = Body(receive), may_be_long(scope["headers"])
        if is_long and self.long_bodies >= LONG_BODIES:
            raise busy(closes=True)
        self.long_bodies += is_long
        answering = asyncio.ensure_future(self.connections.handle_async_request(request_of(scope, body)))
        leaving = asyncio.ensure_future(body.wait_for_disconnect())
        try:
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.long_bodies -= is_long
            if not answering.done():
                raise Gone
            try:
                answer = answering.result()
            except httpcore.PoolTimeout:
                raise busy() from None
            except AWAY:
                raise PageRefused(503, "The process that serves pages isn't running: try again in a moment.") from None
            try:
                yield answer, leaving
            finally:
                await answer.aclose()
        finally:
            leaving.cancel()
            answering.cancel()

    def _note(self, scope: Any, session: bytes, answer: Headers) -> None:
        """Remember for the next request whether the session is valid."""
        self.sessions.pop(session, None)
        if any(name.lower() == KNOWN for name, _ in answer):
            known_callers.note(scope)
            if session:
                self.sessions[session] = None
            if len(self.sessions) > SESSIONS:
                self.sessions.popitem(last=False)


class Body:
    """The body of a request that is passed on, and then the client's disconnect."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.read = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in parts(self.receive):
            if part:
                yield part
        self.read.set()

    async def wait_for_disconnect(self) -> None:
        await self.read.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


def request_of(scope: Any, body: Body) -> httpcore.Request:
    """The request for the page process: as it is, with what the page process can't see by itself."""
    headers = [(name, value) for name, value in scope["headers"] if name not in HOP | OURS]
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        headers.append((b"transfer-encoding", b"chunked"))
    headers += [(CLIENT, scope["client"][0].encode()), (SCHEME, scope["scheme"].encode())]
    query = scope.get("query_string", b"")
    if (page := CURRENT.get()) is not None:
        headers.append((REQUEST, page.hex.encode()))
    target = scope["raw_path"] + (b"?" + query if query else b"")
    url = httpcore.URL(scheme=b"http", host=b"pages", port=None, target=target)
    return httpcore.Request(scope["method"], url, headers=headers, content=body, extensions={"timeout": TIMEOUTS})


def may_be_long(headers: Headers) -> bool:
    """Whether a request's body is long, or doesn't say its length. Each process holds few of these at once: here, they
    are refused before their bytes are read."""
    said = dict(headers)
    return b"transfer-encoding" in said or int(said.get(b"content-length") or 0) > SHORT_BODY


def as_sent(scope: Mapping[str, Any], receive: Receive, send: Send) -> tuple[dict[str, Any], Receive, Send]:
    """In the page process: the request as the client sent it to a web process. The answer's head says whether the
    request has a valid session."""
    said = dict(scope["headers"])
    headers = [(name, value) for name, value in scope["headers"] if name not in OURS]
    known: list[bool] = []
    if REQUEST in said:
        CURRENT.set(UUID(said[REQUEST].decode()))

    async def send_with_known(message: Any) -> None:
        if message["type"] == "http.response.start" and known:
            message = {**message, "headers": [*message["headers"], (KNOWN, b"1")]}
        await send(message)

    sent = {
        **scope,
        "client": (said[CLIENT].decode(), 0),
        "scheme": said[SCHEME].decode(),
        "headers": headers,
        "state": {**scope.get("state", {}), known_callers.KNOWN: lambda: known.append(True)},
    }
    return sent, receive, send_with_known
