"""The HTTP client that the relay calls providers with, behind an interface as narrow as the relay needs.

aiohttp underneath, with everything that it would decide by itself set here: no redirects, no cookies, no
decompression, no total time-out (its default ends a stream after 300 s), no limit on connections (default 100), no
headers of its own.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from io import BytesIO
from typing import Protocol

import aiohttp
from yarl import URL

Headers = list[tuple[bytes, bytes]]

# aiohttp warns of larger bodies given as bytes, and would send them in one go.
LARGE = 1 << 20
# Kept-alive connections are closed by us before a provider's front end does it under a request.
KEEP_ALIVE_SECONDS = 30


class UpstreamError(Exception):
    """The provider could not be called, or did not answer to the end.

    Attributes:
        sent: whether the request may have reached the provider, and so may be billed.
        kind: a short constant for the ledger.
    """

    def __init__(self, kind: str, *, sent: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent


class Answer(Protocol):
    """A provider's answer whose body is read piece by piece."""

    status: int
    headers: Headers

    async def read(self) -> bytes:
        """The next bytes as they came, empty at the end.

        Raises:
            UpstreamError: it broke off.
        """

    def close(self) -> None:
        """Let go of it; what is still under way is cancelled."""


class HttpAnswer:
    """An answer over HTTP."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]
        encoding = response.headers.get("content-encoding", "").lower()
        # We ask for none; who compresses all the same is unpacked, so that the stream can be read and added to.
        self.inflate = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        if self.inflate is not None:
            self.headers = [
                (name, value) for name, value in self.headers if name not in (b"content-encoding", b"content-length")
            ]

    async def read(self) -> bytes:
        try:
            while True:
                chunk = await self.response.content.readany()
                if self.inflate is None:
                    return chunk
                plain = self.inflate.decompress(chunk) if chunk else self.inflate.flush()
                if plain or not chunk:
                    return plain
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamError("broken_off", sent=True) from error
        except zlib.error as error:
            raise UpstreamError("bad_compression", sent=True) from error

    def close(self) -> None:
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()


class UpstreamClient:
    """Connections to providers, kept alive between calls. One per process.

    Args:
        proxy: URL of an outbound proxy, or empty.
        ca_bundle: PEM file of additional certificate authorities, or none.
        connect_seconds: for resolving, connecting and TLS.
        first_byte_seconds: from the request to the answer's headers.
    """

    def __init__(self, *, proxy: str, ca_bundle: str | None, connect_seconds: float, first_byte_seconds: float) -> None:
        context = ssl.create_default_context()
        if ca_bundle:
            context.load_verify_locations(ca_bundle)
        self.proxy = proxy or None
        self.first_byte_seconds = first_byte_seconds
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=0, ssl=context, keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            trust_env=False,
            max_line_size=65_536,
            max_field_size=65_536,
        )

    async def send(self, method: str, url: str, headers: Headers, body: bytes) -> Answer:
        """Send a request and wait for the headers of its answer.

        Raises:
            UpstreamError: there was no answer; `sent` says whether the request may have arrived.
        """
        try:
            async with asyncio.timeout(self.first_byte_seconds):
                return HttpAnswer(
                    await self.session.request(
                        method,
                        URL(url, encoded=True),
                        headers=[(name.decode("ascii"), text(value)) for name, value in headers],
                        data=(body if len(body) < LARGE else BytesIO(body)) or None,
                        allow_redirects=False,
                        proxy=self.proxy,
                    )
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UpstreamError("not_connected", sent=False) from error
        except TimeoutError as error:
            raise UpstreamError("no_answer_in_time", sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError("no_answer", sent=True) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()


def text(value: bytes) -> str:
    """A header's value for aiohttp, which writes UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
