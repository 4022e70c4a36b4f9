"""A request body that is kept whole, outside of the event loop's memory, until it is known to be good: up to 256 MB.

It lies in a file that has no name and is on no disk (memfd), so that another process can read it, and nothing is left
of it whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Self

from messages_api.handler import ApiRequest
from messages_api.upstream import StreamedBody

PART = 256 * 1024


class SpooledBody:
    """The bytes of a request body, in a file descriptor. Close it."""

    def __init__(self) -> None:
        self.file = os.memfd_create("body")
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    async def receive(self, http: ApiRequest, limit: int) -> None:
        """Take in the whole body.

        Raises:
            GatewayError, ClientGone: as `ApiRequest.parts`.
        """
        async for part in http.parts(limit):
            while part:
                written = os.write(self.file, part)
                self.size += written
                part = part[written:]

    def read(self) -> bytes:
        """All of it."""
        return os.pread(self.file, self.size, 0)

    def outgoing(self) -> StreamedBody:
        """The same, to be sent from its beginning."""
        return StreamedBody(self._parts(), self.size)

    async def _parts(self) -> AsyncIterator[bytes]:
        for start in range(0, self.size, PART):
            yield os.pread(self.file, PART, start)
