"""Bounds on the answers that background tasks and the clouds' own libraries get: these read an answer whole, and unpack
a compressed one at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import aiohttp
import httpx

from messages_api.upstream.client import Inflater, UpstreamError, is_packed

# The longest answer with an access token; real ones have a few kB.
MOST_OF_A_TOKEN = 1 << 20


def plain(parts: Iterable[bytes], encoding: str, most: int | None) -> Iterator[bytes]:
    """The parts of an answer, unpacked piece by piece.

    Raises:
        UpstreamError: the answer is longer than `most` bytes, or can't be unpacked.
    """
    inflater, packed, size = Inflater(), is_packed(encoding), 0
    for part in parts:
        for piece in inflater.feed(part) if packed else (part,):
            size += len(piece)
            if most is not None and size > most:
                raise UpstreamError("too_long", sent=True)
            yield piece


class PlainStream(httpx.SyncByteStream):
    """The body of an answer over httpx, unpacked and bounded."""

    def __init__(self, stream: httpx.SyncByteStream, encoding: str, most: int | None) -> None:
        self.stream = stream
        self.encoding = encoding
        self.most = most

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from plain(self.stream, self.encoding, self.most)
        except UpstreamError as error:
            raise httpx.ReadError(error.kind) from None

    def close(self) -> None:
        self.stream.close()


def bounding(most: int | None = None) -> dict[str, list[Callable[[httpx.Response], None]]]:
    """Event hooks for an httpx client that limit its answers to `most` bytes and unpack them before httpx would."""

    def bound(answer: httpx.Response) -> None:
        assert isinstance(answer.stream, httpx.SyncByteStream)
        answer.stream = PlainStream(answer.stream, answer.headers.pop("content-encoding", ""), most)

    return {"response": [bound]}


class TokenResponse(aiohttp.ClientResponse):
    """An answer over aiohttp, bounded. The library that reads it unpacks it itself (auto_decompress is off)."""

    async def read(self) -> bytes:
        """The body.

        Raises:
            aiohttp.ClientPayloadError: packed or unpacked, the body is too long for a token.
        """
        if self._body is None:
            parts, size = list[bytes](), 0
            async for part in self.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > MOST_OF_A_TOKEN:
                    self.close()
                    raise aiohttp.ClientPayloadError("too_long")
            try:
                for _ in plain(parts, self.headers.get("content-encoding", ""), MOST_OF_A_TOKEN):
                    pass
            except UpstreamError as error:
                raise aiohttp.ClientPayloadError(error.kind) from None
            self._body = b"".join(parts)
        return self._body
