"""What the relay needs of an HTTP client, and no more: send a request, read the answer as it comes, let go of it."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
    """

    def __init__(self, kind: str, *, sent: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Whom to trust: the system's certificate authorities, and the deployment's own."""
    context = ssl.create_default_context()
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    return context


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
        self, method: str, url: str, headers: Headers, body: bytes, on_write: OnWrite | None = None
    ) -> Answer:
        """Send a request and wait for the headers of its answer; their names are in lower case.

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
