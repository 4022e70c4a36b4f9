"""The interface of the relay's HTTP client: send a request, read the answer while it arrives, close it.

Nothing here reads what an answer's bytes mean. The sizes of its parts are chosen for events, which others read.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keys.timeouts import DEPLOYMENTS, Timeouts

Headers = list[tuple[bytes, bytes]]
# Called just before the first byte of a request goes out: from then on the provider may bill it.
OnWrite = Callable[[], None]

# Bytes that a compressed answer is unpacked to at a time: a few packed bytes may expand to gigabytes.
PIECE = 1 << 18
# Bytes of an answer that are read at a time: a part may hold thousands of events, each of which takes microseconds.
PART = 1 << 15
# Bytes of the longest answer that is kept whole, and of the longest event of a stream.
MOST_BYTES = 64 << 20


class UpstreamError(Exception):
    """The provider could not be called, or did not answer to the end.

    Attributes:
        sent: whether the request may have reached the provider, and so may be billed.
        kind: a short constant for the ledger.
        ended: the provider reported that the call is over, so that a retry repeats no work.
    """

    def __init__(self, kind: str, *, sent: bool, ended: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent
        self.ended = ended


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """A TLS context that trusts the system's certificate authorities and the deployment's own."""
    context = ssl.create_default_context()
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    return context


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A request body that is sent while it arrives; `size` in bytes, None: unknown (it is sent in chunks)."""

    parts: AsyncIterator[bytes]
    size: int | None

    async def exact(self) -> AsyncIterator[bytes]:
        """The parts without empty ones. With a `size`, the last part is held back until the body has really ended.

        Raises:
            UpstreamError: the body is longer or shorter than `size`.
        """
        left, last = self.size, b""
        async for part in self.parts:
            if not part:
                continue
            if left is not None:
                left -= len(part)
                if left < 0:
                    raise UpstreamError("bad_body", sent=True)
                if left == 0:
                    last = part
                    continue
            yield part
        if left:
            raise UpstreamError("bad_body", sent=True)
        if last:
            yield last

    async def read(self) -> bytes:
        """The whole body, for providers that need it in one piece."""
        return b"".join([part async for part in self.parts])


Body = bytes | StreamedBody


class Answer(Protocol):
    """A provider's answer whose body is read piece by piece."""

    status: int
    headers: Headers

    async def read(self) -> bytes:
        """The next bytes as they arrived, empty at the end.

        Raises:
            UpstreamError: the provider disconnected before the end.
        """

    def close(self) -> None:
        """Release the connection, and cancel anything that is still under way."""


class UpstreamClient(Protocol):
    """Connections to providers, kept alive between calls. One per process."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: Body,
        on_write: OnWrite | None = None,
        timeouts: Timeouts = DEPLOYMENTS,
    ) -> Answer:
        """Send a request and wait for the headers of its answer; their names are in lower case.

        A streamed body is read only as fast as the provider takes it. If the provider answers before the body has
        ended, the rest isn't sent. An exception of the body's parts ends the call and is raised here. The client
        enforces `connect` and `first_byte` of `timeouts`; the reader of the answer enforces the others.

        Raises:
            UpstreamError: there was no answer; `sent` says whether the request may have arrived.
        """

    async def close(self) -> None: ...


async def read_all(read: Callable[[], Awaitable[bytes]], most: int = MOST_BYTES, *, cut: bool = False) -> bytes:
    """All that `read` returns until it returns nothing.

    Args:
        cut: return the first `most` bytes of a longer body instead of raising.

    Raises:
        UpstreamError: the body is longer than `most` bytes; or as `read`.
    """
    body: bytes | bytearray = b""
    while part := await read():
        body = joined(body, part)
        if len(body) > most:
            if not cut:
                raise UpstreamError("too_long", sent=True)
            break
    return bytes(body if len(body) <= most else body[:most])


def joined(body: bytes | bytearray, part: bytes) -> bytes | bytearray:
    """What was read up to now with the next part appended; a single part is not copied."""
    if not body:
        return part
    body = body if isinstance(body, bytearray) else bytearray(body)
    body += part
    return body


class Inflater:
    """Unpacks gzip or deflate, a bounded piece at a time."""

    def __init__(self) -> None:
        self.inflate = zlib.decompressobj(47)
        self.begun = False

    @property
    def complete(self) -> bool:
        """Whether the packed data has ended, or has not begun."""
        return self.inflate.eof or not self.begun

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Unpack the next bytes, in pieces, some of which may be empty.

        Raises:
            UpstreamError: the data is neither gzip nor deflate.
        """
        self.begun = self.begun or bool(packed)
        # Each piece and each member copies what is left, so no more than a part is left.
        for start in range(0, len(packed), PART):
            yield from self._feed(packed[start : start + PART])

    def _feed(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            if self.inflate.eof:  # another member follows
                self.inflate = zlib.decompressobj(47)
            try:
                yield self.inflate.decompress(packed, PIECE)
            except zlib.error as error:
                raise UpstreamError("bad_compression", sent=True) from error
            packed = self.inflate.unconsumed_tail or self.inflate.unused_data


class Unpacked:
    """A compressed answer, read unpacked.

    The gateway asks for no compression. If a provider compresses anyway, the answer is unpacked, so that the gateway
    can meter a stream and add events to it.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.status = answer.status
        self.headers: Headers = [
            (name, value) for name, value in answer.headers if name not in (b"content-encoding", b"content-length")
        ]
        self.inflater = Inflater()
        self.pieces: Iterator[bytes] = iter(())
        self.begun = False

    async def read(self) -> bytes:
        while True:
            if self.begun:
                # One packet may unpack to very many pieces: let other calls run between them.
                await asyncio.sleep(0)
            for piece in self.pieces:
                if piece:
                    return piece
                await asyncio.sleep(0)
            packed = await self.answer.read()
            self.begun = True
            if not packed:
                if not self.inflater.complete:
                    raise UpstreamError("broken_off", sent=True)
                return b""
            self.pieces = self.inflater.feed(packed)

    def close(self) -> None:
        self.answer.close()


class InParts:
    """An answer that is read in short parts. Between parts that arrived together, other calls get their turn."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.status = answer.status
        self.headers = answer.headers
        self.rest: bytes | memoryview = b""

    async def read(self) -> bytes:
        if self.rest:
            await asyncio.sleep(0)
        else:
            whole = await self.answer.read()
            if len(whole) <= PART:
                return whole
            self.rest = memoryview(whole)
        part, self.rest = bytes(self.rest[:PART]), self.rest[PART:]
        return part

    def close(self) -> None:
        self.rest = b""
        self.answer.close()


def is_packed(encoding: str) -> bool:
    """Whether this `content-encoding` is one that `Inflater` unpacks."""
    return encoding.strip().lower() in ("gzip", "deflate")


def plain(answer: Answer) -> Answer:
    """The answer in short parts, unpacked if it is gzip or deflate."""
    encoding = next((value for name, value in answer.headers if name == b"content-encoding"), b"")
    return InParts(Unpacked(answer) if is_packed(encoding.decode("latin-1")) else answer)
