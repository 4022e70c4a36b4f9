"""The limit of parallel calls of a virtual key, for a web process that reads request bodies.

At that point the arbiter hasn't been asked yet, so the process keeps a short-lived copy of the limit.
"""

from __future__ import annotations

import asyncio
import time

import psycopg

from keys.connection import Reader

# The lowest limit of the key, its team and its customer. Limits for some models only are left out: the model is not
# known yet.
READ = """
SELECT min(l.rate) FROM keys_virtualkey v
JOIN usage_limit l ON l.owner = ANY (ARRAY[v.customer_id * 4, v.team_id * 4 + 1, v.id * 4 + 2])
WHERE v.id = %s AND l.active AND l.kind = 'parallel' AND l.model_patterns = '{}' AND l.provider_key_id IS NULL
"""
# Seconds before the limit is read again. The arbiter, which decides, always uses the current one.
FRESH_SECONDS = 5.0
CAPACITY = 10_000


class ParallelLimits:
    """A cache of the lowest limit of parallel calls per virtual key."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known: dict[int, tuple[int | None, float]] = {}
        self.reading: dict[int, asyncio.Task[int | None]] = {}

    async def of(self, key: int) -> int | None:
        """The limit of this key; None if it has none. If the database is unavailable, the last known one."""
        known = self.known.get(key)
        if known is not None and time.monotonic() - known[1] < FRESH_SECONDS:
            return known[0]
        reading = self.reading.get(key)
        if reading is None:
            reading = self.reading[key] = asyncio.get_running_loop().create_task(self._read(key))
            reading.add_done_callback(lambda _: self.reading.pop(key))
        return await asyncio.shield(reading)

    async def _read(self, key: int) -> int | None:
        try:
            rate = (await self.reader.fetch(READ, [key]))[0][0]
        except psycopg.Error:
            return self.known.get(key, (None,))[0]
        if len(self.known) >= CAPACITY:
            self.known.clear()
        self.known[key] = rate, time.monotonic()
        return None if rate is None else int(rate)
