"""Counts free calls (usage.free_calls) in a web process: in memory, written about once a second."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, date, datetime

import msgspec
import psycopg

from keys.connection import Reader

logger = logging.getLogger(__name__)

# Processes update the same rows: a fixed order prevents deadlocks.
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
    """Counts in memory; `flush` writes. If the process is killed, the counts of its last second are lost."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.counted: Counter[Cell] = Counter()

    def count(self, virtual_key: int, endpoint: str, status: str) -> None:
        """Count a call that has ended. Does no I/O."""
        self.counted[datetime.now(UTC).date(), virtual_key, endpoint, status] += 1

    async def flush(self) -> None:
        """Write the counts. If the database is unavailable, they are kept for the next flush."""
        if not self.counted:
            return
        counted, self.counted = self.counted, Counter()
        rows = [dict(zip(MEMBERS, cell, strict=True)) | {"calls": calls} for cell, calls in counted.items()]
        try:
            await self.reader.fetch(WRITE, [msgspec.json.encode(rows).decode()])
        except psycopg.OperationalError as error:
            logger.warning("counts of free calls can't be written now and are kept (%s)", type(error).__name__)
            self.counted.update(counted)
        except psycopg.Error as error:
            logger.error(
                "%d free calls are missing from the counts: the database refused them (%s)",
                counted.total(),
                type(error).__name__,
            )
