"""What the relay needs of an HTTP client, and no more: send a request, read the answer as it comes, let go of it."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keys.timeouts import DEPLOYMENTS, Timeouts

Headers = list[tuple[bytes, bytes]]
# Told just before the first byte of a request goes out: from then on it may be billed.
OnWrite = Callable[[], None]

# What a compressed answer is unpacked to at a time: a few bytes of it may become gigabytes.
PIECE = 1 << 20


class UpstreamError(Exception):
    """The provider could not be called, or did not answer to the end.

    Attributes:
        sent: whether the request may have reached the provider, and so may be billed.
        kind: a short constant for the ledger.
        ended: the provider said that it is done, so that another attempt makes nothing twice.
    """

    def __init__(self, kind: str, *, sent: bool, ended: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent
        self.ended = ended


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Whom to trust: the system's certificate authorities, and the deployment's own."""
    context = ssl.create_default_context()
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    return context


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A request body that goes out as it comes; `size` in bytes, None: unknown (it goes out in chunks)."""

    parts: AsyncIterator[bytes]
    size: int | None

    async def exact(self) -> AsyncIterator[bytes]:
        """The parts, none of them empty, the last one only once it is known that there is no more.

        Raises:
            UpstreamError: they are longer or shorter than `size`.
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
        """All of it, for who can't do with less."""
        return b"".join([part async for part in self.parts])


Body = bytes | StreamedBody


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

        Of a streamed body no more is taken than the provider has room for. An answer that comes before its end is the
        answer: the rest isn't sent. What its parts raise ends the call, and is raised here. Of `timeouts`, the client
        keeps `connect` and `first_byte`; whoever reads the answer keeps the others.

        Raises:
            UpstreamError: there was no answer; `sent` says whether the request may have arrived.
        """

    async def close(self) -> None:
        """Close every connection."""


class Unpacked:
    """An answer that came compressed, read plain. We ask for none; who compresses all the same is unpacked, so that a
    stream can be read along and added to."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.status = answer.status
        self.headers: Headers = [
            (name, value) for name, value in answer.headers if name not in (b"content-encoding", b"content-length")
        ]
        self.inflate = zlib.decompressobj(47)
        self.packed = b""
        self.begun = False

    async def read(self) -> bytes:
        while True:
            if not self.packed:
                self.packed = await self.answer.read()
            if not self.packed:
                if self.begun and not self.inflate.eof:
                    raise UpstreamError("broken_off", sent=True)
                return b""
            if plain := self._inflate():
                return plain

    def _inflate(self) -> bytes:
        self.begun = True
        if self.inflate.eof:  # another member follows
            self.inflate = zlib.decompressobj(47)
        try:
            plain = self.inflate.decompress(self.packed, PIECE)
        except zlib.error as error:
            raise UpstreamError("bad_compression", sent=True) from error
        self.packed = self.inflate.unconsumed_tail or self.inflate.unused_data
        return plain

    def close(self) -> None:
        self.answer.close()


def plain(answer: Answer) -> Answer:
    """The answer, unpacked if it is gzip or deflate."""
    encoding = next((value.strip().lower() for name, value in answer.headers if name == b"content-encoding"), b"")
    return Unpacked(answer) if encoding in (b"gzip", b"deflate") else answer
