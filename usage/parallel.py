"""How many calls at once a virtual key may make, as a web process needs it before the arbiter is asked: while it reads
request bodies."""

from __future__ import annotations

import asyncio
import time

import psycopg

from keys.connection import Reader

# Of the limits that apply whatever the model: the key's, its team's and its customer's.
READ = """
SELECT min(l.rate) FROM keys_virtualkey v
JOIN usage_limit l ON l.owner = ANY (ARRAY[v.customer_id * 4, v.team_id * 4 + 1, v.id * 4 + 2])
WHERE v.id = %s AND l.active AND l.kind = 'parallel' AND l.model_patterns = '{}' AND l.provider_key_id IS NULL
"""
# Seconds for which a number is believed; the arbiter's is always the one of now.
FRESH_SECONDS = 5.0
CAPACITY = 10_000


class ParallelLimits:
    """The lowest limit of calls at once that applies to a key, by the key's id."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known: dict[int, tuple[int | None, float]] = {}
        self.reading: dict[int, asyncio.Task[int | None]] = {}

    async def of(self, key: int) -> int | None:
        """The number for this key, None where it has no such limit. While the database is away, the last one known."""
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
