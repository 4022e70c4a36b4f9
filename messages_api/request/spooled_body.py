"""A request body of up to 256 MB that is kept whole, outside of the process's heap, until it is checked.

It is in an anonymous file in memory (memfd): another process can read it, and nothing of it is left after a crash.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncIterator
from typing import Self

from messages_api.json_text.byte_edits import Edit
from messages_api.server.handler import ApiRequest
from messages_api.upstream.client import StreamedBody

PART = 256 * 1024


class SpooledBody:
    """A request body in a file descriptor. A second one holds the edited body for the provider, if that differs.

    Use it in a `with` block, which closes both.
    """

    def __init__(self) -> None:
        self.file = os.memfd_create("body")
        self.edited = os.memfd_create("edited body")
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)
        os.close(self.edited)

    async def receive(self, http: ApiRequest, limit: int) -> None:
        """Receive the whole body, which is still to be checked.

        Raises:
            GatewayError, ClientGone: as `ApiRequest.parts`.
        """
        async for part in http.parts(limit, understood=False):
            while part:
                written = os.write(self.file, part)
                self.size += written
                part = part[written:]

    def read(self) -> bytes:
        return os.pread(self.file, self.size, 0)

    def outgoing(self) -> StreamedBody:
        """The body for the provider, edited or not, from its beginning."""
        size = os.fstat(self.edited).st_size
        return StreamedBody(parts(self.edited, size) if size else parts(self.file, self.size), size or self.size)


async def parts(file: int, size: int) -> AsyncIterator[bytes]:
    """The contents of a file, part by part."""
    for start in range(0, size, PART):
        yield os.pread(file, PART, start)


class Editing:
    """Writes an edited copy of a body to a file, edit by edit; without edits it writes nothing."""

    def __init__(self, body: bytes | mmap.mmap, file: int) -> None:
        self.body = memoryview(body)
        self.file = file
        self.at = 0

    def edit(self, edit: Edit) -> None:
        """Apply the next edit, in the order of positions."""
        self._write(self.body[self.at : edit.begin])
        self._write(memoryview(edit.instead))
        self.at = edit.end

    def end(self) -> None:
        """Write the rest of the body after the last edit."""
        if self.at:
            self._write(self.body[self.at :])

    def _write(self, part: memoryview) -> None:
        while part:
            part = part[os.write(self.file, part) :]
