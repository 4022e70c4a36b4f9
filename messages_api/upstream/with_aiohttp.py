"""The relay's HTTP client on aiohttp: for outbound proxies, or by choice (`UPSTREAM_CLIENT=aiohttp`).

Each default of aiohttp that would change a call is overridden here: no redirects, no cookies, no decompression, no
total time-out (the default ends a stream after 300 s), no limit on connections (default 100) and no added headers. No
connection is kept alive: aiohttp would take bytes that arrive on an idle connection for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from keys.destinations import Destinations, Forbidden
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.upstream.client import Answer, Body, Headers, OnWrite, StreamedBody, UpstreamError

# aiohttp warns about a larger body that is given as bytes, and would send it in one write.
LARGE = 1 << 20


class AiohttpAnswer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]

    async def read(self) -> bytes:
        try:
            return await self.response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            raise UpstreamError("broken_off", sent=True) from error

    def close(self) -> None:
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()


class Connector(aiohttp.TCPConnector):
    """Connects to permitted addresses only. Without `destinations` it checks none: then a proxy resolves names."""

    def __init__(self, destinations: Destinations | None, **options: Any) -> None:
        super().__init__(**options)
        self.destinations = destinations

    async def _resolve_host(self, host: str, *args: Any, **kwargs: Any) -> Any:
        found = await super()._resolve_host(host, *args, **kwargs)
        if self.destinations is None:
            return found
        permitted = self.destinations.permitted(host, [each["host"] for each in found])
        return [each for each in found if each["host"] in permitted]


class AiohttpClient:
    """Calls providers through aiohttp.

    Args:
        tls: for https.
        destinations: where it may connect. With a proxy only the spelling of the host is checked.
        proxy: URL of an outbound proxy, or empty.
        connect_seconds: for resolving, connecting and TLS.
        first_byte_seconds: from the end of the request to the answer's headers.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        destinations: Destinations,
        proxy: str,
        connect_seconds: float,
        first_byte_seconds: float,
    ) -> None:
        self.proxy = proxy or None
        self.destinations = destinations
        self.connect_seconds = connect_seconds
        self.first_byte_seconds = first_byte_seconds
        self.session = aiohttp.ClientSession(
            connector=Connector(
                None if proxy else destinations,
                limit=0,
                limit_per_host=0,
                ssl=tls,
                force_close=True,
                ttl_dns_cache=60,
            ),
            timeout=self.timeout(connect_seconds),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            trust_env=False,
            max_line_size=65_536,
            max_field_size=65_536,
            trace_configs=[writes()],
        )

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
        upload: Upload | None = None
        data: bytes | BytesIO | AsyncIterator[bytes] | None
        if isinstance(body, bytes):
            data = (body if len(body) < LARGE else BytesIO(body)) or None
            deadline = asyncio.timeout(first_byte_seconds)
        else:
            upload = Upload(body, first_byte_seconds)
            data, deadline = upload.parts(), upload.deadline
            if body.size is not None:
                headers = [*headers, (b"content-length", b"%d" % body.size)]
        try:
            where = URL(url, encoded=True)
            self.destinations.check_spelling(where.host or "")
            async with deadline:
                return AiohttpAnswer(
                    await self.session.request(
                        method,
                        where,
                        headers=[(name.decode("ascii"), text(value)) for name, value in headers],
                        data=data,
                        allow_redirects=False,
                        proxy=self.proxy,
                        timeout=self.timeout(timeouts.connect or self.connect_seconds),
                        trace_request_ctx=on_write,
                    )
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if upload is not None and upload.fault is not None:
                raise upload.fault from None
            raise failure(error) from error
        finally:
            if upload is not None:
                upload.answered = True

    @staticmethod
    def timeout(connect_seconds: float) -> aiohttp.ClientTimeout:
        """A bound on connecting only: the relay enforces the others itself."""
        return aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=None)

    async def close(self) -> None:
        await self.session.close()


class Upload:
    """A streamed request body. aiohttp sends it in a separate task.

    Args:
        patience: seconds that the provider may take to accept a part, and to answer after the last one.
    """

    def __init__(self, body: StreamedBody, patience: float) -> None:
        self.body = body
        self.patience = patience
        self.deadline = asyncio.timeout(None)
        self.fault: Exception | None = None
        self.answered = False

    async def parts(self) -> AsyncIterator[bytes]:
        """The parts that aiohttp sends. The deadline is paused while the client's next part is awaited."""
        try:
            async for part in self.body.exact():
                if self.answered:
                    # To return would end the body properly, so that it looked complete. aiohttp cancels this task
                    # when the answer ends.
                    await asyncio.get_running_loop().create_future()
                self._count_from_now(self.patience)
                yield part
                self._count_from_now(None)
        except Exception as error:
            self.fault = error  # aiohttp replaces it with an exception of its own type
            raise
        self._count_from_now(self.patience)

    def _count_from_now(self, seconds: float | None) -> None:
        if not (self.answered or self.deadline.expired()):
            self.deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def failure(error: Exception) -> UpstreamError:
    """The UpstreamError that an error of aiohttp's stands for."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | ValueError | Forbidden):
        return UpstreamError("not_connected", sent=False)
    return UpstreamError("no_answer_in_time" if isinstance(error, TimeoutError) else "no_answer", sent=True)


def writes() -> aiohttp.TraceConfig:
    """A trace that calls the `on_write` of each request, which travels as the request's context."""

    async def written(_: aiohttp.ClientSession, context: SimpleNamespace, about: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(written)
    return trace


def text(value: bytes) -> str:
    """A header's value for aiohttp, which encodes headers as UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
