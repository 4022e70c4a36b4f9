"""Counting free calls (usage.free_calls) in a web process: in memory, written about once a second."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, date, datetime

import msgspec
import psycopg

from keys.connection import Reader

logger = logging.getLogger(__name__)

# In one order for all processes: they lock the same rows.
WRITE = """
INSERT INTO usage_freecalls AS c (day, virtual_key_id, endpoint, status, calls)
SELECT f.* FROM jsonb_to_recordset(%s::jsonb) AS f (
    day date, virtual_key bigint, endpoint text, status text, calls bigint)
ORDER BY f.day, f.virtual_key, f.endpoint, f.status
ON CONFLICT (day, virtual_key_id, endpoint, status) DO UPDATE SET calls = c.calls + excluded.calls
"""

# A day, a virtual key, an endpoint and a status.
Cell = tuple[date, int, str, str]
MEMBERS = ("day", "virtual_key", "endpoint", "status")


class FreeCallCounter:
    """Counts; `flush` writes. A process that is killed takes its last second's counts with it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.counted: Counter[Cell] = Counter()

    def count(self, virtual_key: int, endpoint: str, status: str) -> None:
        """A call ended; no I/O."""
        self.counted[datetime.now(UTC).date(), virtual_key, endpoint, status] += 1

    async def flush(self) -> None:
        """Write what was counted; what can't be written now is tried again with the next."""
        if not self.counted:
            return
        counted, self.counted = self.counted, Counter()
        rows = [dict(zip(MEMBERS, cell, strict=True)) | {"calls": calls} for cell, calls in counted.items()]
        try:
            await self.reader.fetch(WRITE, [msgspec.json.encode(rows).decode()])
        except psycopg.OperationalError as error:
            logger.warning("counts of free calls wait to be written (%s)", type(error).__name__)
            self.counted.update(counted)
        except psycopg.Error as error:
            logger.error("counts of %d free calls are lost (%s)", counted.total(), type(error).__name__)
