"""The calls that a process has under way, with the streams among them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import Protocol
from uuid import UUID

from keys.connection import Reader
from keys.directory import KnownKey
from messages_api.server.handler import ApiRequest

logger = logging.getLogger(__name__)

CUT = "SELECT id FROM keys_virtualkey WHERE cut_streams_at > clock_timestamp() - interval '1 minute'"


class OpenCall(Protocol):
    """The parts of a call that are needed to find it and cut it off."""

    id: UUID
    key: KnownKey
    http_request: ApiRequest
    cut: bool


class OpenStream(Protocol):
    """A stream that gets pings, and is ended when its time is over."""

    def tend(self, now: float, ping_seconds: float) -> None:
        """Called often."""


class OpenCalls:
    """The open calls of one process, by virtual key."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.calls: defaultdict[int, set[OpenCall]] = defaultdict(set)
        self.streams: set[OpenStream] = set()

    def remember(self, call: OpenCall) -> None:
        """Add a call that was admitted."""
        self.calls[call.key.id].add(call)

    def forget(self, call: OpenCall) -> None:
        """Remove a call that was settled."""
        calls = self.calls.get(call.key.id)
        if calls is not None:
            calls.discard(call)
            if not calls:
                del self.calls[call.key.id]

    async def cut(self) -> None:
        """End the calls of keys that were revoked together with their open calls.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        if not self.calls:
            return
        for (key,) in await self.reader.fetch(CUT):
            for call in list(self.calls.get(key, ())):
                call.cut = True
                call.http_request.task.cancel()

    async def tend(self, ping_seconds: float) -> None:
        """Send pings and end streams whose time is over, without asking the database, until cancelled."""
        pause = min(1.0, ping_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for stream in list(self.streams):
                stream.tend(now, ping_seconds)

    def warn(self) -> None:
        """Log the calls that are still open when the process ends."""
        for call in [call for calls in self.calls.values() for call in calls]:
            logger.warning("call %s is still open", call.id)
