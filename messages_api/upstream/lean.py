"""The relay's HTTP/1.1 client: `httptools` on asyncio's protocols, a fifth of aiohttp's CPU.

It does what a relay needs: it sends requests with a whole or a streamed body, reads answers as they arrive, and keeps
connections alive. It follows no redirects, keeps no cookies, decompresses nothing, retries nothing, and adds no headers
but `host` and the body's framing. Outbound proxies need aiohttp (`messages_api/upstream/with_aiohttp.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections import defaultdict
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from keys.destinations import Destinations, resolved
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.upstream.client import Answer, Body, Headers, OnWrite, UpstreamError
from messages_api.upstream.lean_connection import Connection, Origin
from messages_api.upstream.time_limit import within

# Idle connections are closed after this time, before a provider's front end closes them under a request.
KEEP_ALIVE_SECONDS = 30.0

# Bytes that a request line can't carry.
UNFIT = re.compile(rb"[\x00-\x20\x7f]")


class LeanAnswer:
    """An answer that holds its connection until it is read to the end or closed."""

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
    """Calls providers.

    Args:
        tls: for https.
        destinations: where it may connect.
        connect_seconds: for resolving, connecting and TLS, unless a call sets another time-out.
        first_byte_seconds: from the end of the request to the answer's headers, unless a call sets another time-out.
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

    # Repeats the signature of UpstreamClient.send, whose docstring applies, so that mypy checks calls and body alike.
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
                with within(first_byte_seconds, self.loop):
                    await connection.answer()
            except TimeoutError:
                raise UpstreamError("no_answer_in_time", sent=True) from None
        except BaseException:
            connection.close()
            raise
        return LeanAnswer(connection)

    async def connect(self, origin: Origin, seconds: float) -> Connection:
        """Open a connection to a permitted address.

        Raises:
            UpstreamError: this failed or took more than `seconds`; nothing was sent.
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
        """The idle connection that was used last and is still open."""
        kept = self.kept.get(origin)
        while kept:
            connection = kept.pop()
            connection.idle = False
            if connection.is_open():
                connection.reset()
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep an idle connection for the next call."""
        connection.idle = True
        connection.idle_since = time.monotonic()
        self.kept[connection.origin].append(connection)
        if self.sweeping is None:
            self.sweeping = self.loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def drop(self, connection: Connection) -> None:
        """Forget an idle connection that the provider has closed."""
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


# A deployment calls few different URLs. The cache is bounded because a client's query is a part of them.
@lru_cache(maxsize=128)
def parse(url: str) -> tuple[Origin, bytes, bytes]:
    """A URL's origin, its `host` header, and its path with the query, byte for byte (characters are Latin-1).

    Raises:
        UpstreamError: the URL is malformed, or isn't http or https.
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
