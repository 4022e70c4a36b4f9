"""A request body that is kept whole, outside of the event loop's memory, until it is known to be good: up to 256 MB.

It lies in a file that has no name and is on no disk (memfd), so that another process can read it, and nothing is left
of it whatever happens.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncIterator
from typing import Self

from messages_api.handler import ApiRequest
from messages_api.splice import Edit
from messages_api.upstream import StreamedBody

PART = 256 * 1024


class SpooledBody:
    """The bytes of a request body, in a file descriptor, and in another one as they go out, if that differs. Close
    it."""

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
        """Take in the whole body; it is still to be understood.

        Raises:
            GatewayError, ClientGone: as `ApiRequest.parts`.
        """
        async for part in http.parts(limit, understood=False):
            while part:
                written = os.write(self.file, part)
                self.size += written
                part = part[written:]

    def read(self) -> bytes:
        """All of it."""
        return os.pread(self.file, self.size, 0)

    def outgoing(self) -> StreamedBody:
        """What goes out, to be sent from its beginning."""
        size = os.fstat(self.edited).st_size
        return StreamedBody(parts(self.edited, size) if size else parts(self.file, self.size), size or self.size)


async def parts(file: int, size: int) -> AsyncIterator[bytes]:
    """What a file has, bit by bit."""
    for start in range(0, size, PART):
        yield os.pread(file, PART, start)


class Editing:
    """Writes a body with edits to another file, as they are found; nothing where there are none."""

    def __init__(self, body: bytes | mmap.mmap, file: int) -> None:
        self.body = memoryview(body)
        self.file = file
        self.at = 0

    def edit(self, edit: Edit) -> None:
        """The next one in order."""
        self._write(self.body[self.at : edit.begin])
        self._write(memoryview(edit.instead))
        self.at = edit.end

    def end(self) -> None:
        """There are no more."""
        if self.at:
            self._write(self.body[self.at :])

    def _write(self, part: memoryview) -> None:
        while part:
            part = part[os.write(self.file, part) :]
