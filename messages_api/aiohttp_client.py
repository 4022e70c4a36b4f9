"""The relay's HTTP client on aiohttp: for outbound proxies, and for who prefers it (`UPSTREAM_CLIENT=aiohttp`).

Everything that aiohttp would decide by itself is set here: no redirects, no cookies, no decompression, no total
time-out (its default ends a stream after 300 s), no limit on connections (default 100), no headers of its own, and no
connection kept: it would take what arrives on an idle one for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import ssl
from io import BytesIO
from types import SimpleNamespace

import aiohttp
from yarl import URL

from messages_api.upstream import Answer, Headers, OnWrite, UpstreamError

# aiohttp warns of larger bodies given as bytes, and would send them in one go.
LARGE = 1 << 20


class AiohttpAnswer:
    """An answer over aiohttp."""

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


class AiohttpClient:
    """Calls providers through aiohttp.

    Args:
        tls: for https.
        proxy: URL of an outbound proxy, or empty.
        connect_seconds: for resolving, connecting and TLS.
        first_byte_seconds: from the request to the answer's headers.
    """

    def __init__(self, *, tls: ssl.SSLContext, proxy: str, connect_seconds: float, first_byte_seconds: float) -> None:
        self.proxy = proxy or None
        self.first_byte_seconds = first_byte_seconds
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=tls, force_close=True, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            trust_env=False,
            max_line_size=65_536,
            max_field_size=65_536,
            trace_configs=[writes()],
        )

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, on_write: OnWrite | None = None
    ) -> Answer:
        try:
            async with asyncio.timeout(self.first_byte_seconds):
                return AiohttpAnswer(
                    await self.session.request(
                        method,
                        URL(url, encoded=True),
                        headers=[(name.decode("ascii"), text(value)) for name, value in headers],
                        data=(body if len(body) < LARGE else BytesIO(body)) or None,
                        allow_redirects=False,
                        proxy=self.proxy,
                        trace_request_ctx=on_write,
                    )
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ValueError) as error:
            raise UpstreamError("not_connected", sent=False) from error
        except TimeoutError as error:
            raise UpstreamError("no_answer_in_time", sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError("no_answer", sent=True) from error

    async def close(self) -> None:
        await self.session.close()


def writes() -> aiohttp.TraceConfig:
    """Tells each request's `on_write`, which is its context."""

    async def tell(_: aiohttp.ClientSession, context: SimpleNamespace, about: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(tell)
    return trace


def text(value: bytes) -> str:
    """A header's value for aiohttp, which writes UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
