"""Background work of a web process that no call waits for: delayed writes, and probes of provider keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import psycopg

from keys.connection import Reader, Values

logger = logging.getLogger(__name__)

# The most tries of a write, one a second. After that, the upkeep of the table finds what is missing.
TRIES = 600


class Errands:
    """The background work of one process."""

    def __init__(self, records: Reader) -> None:
        self.records = records
        self.tasks: set[asyncio.Task[None]] = set()

    def run(self, errand: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine in the background, at most until the process ends."""
        task = asyncio.get_running_loop().create_task(errand)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def write(self, query: str, values: Values) -> None:
        """Write to the tables of what is stored at providers as soon as the database is available, perhaps after the
        answer.
        """
        self.run(self._write(query, values))

    async def _write(self, query: str, values: Values) -> None:
        for _ in range(TRIES):
            try:
                await self.records.fetch(query, values)
                return
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                logger.error("a record can't be written (%s)", type(error).__name__)
                return
            except psycopg.Error as error:
                logger.warning("a record waits to be written (%s)", type(error).__name__)
                await asyncio.sleep(1)

    async def stop(self) -> None:
        """Cancel all background work."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
