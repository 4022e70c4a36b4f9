"""A web process that serves pages and no calls has no writer, which would check for the arbiter's functions and
register. But its pages use these functions (to top up, to give back), and an hourly task drops unused versions.
"""

from __future__ import annotations

import asyncio
import logging

import psycopg

from keys.connection import connect
from usage import functions

logger = logging.getLogger(__name__)

# Seconds between two notes that the functions are in use. Functions without a note for days are dropped.
SECONDS = 3600


class PagesAlone:
    """Notes that this process uses its version of the functions, from its start to its end."""

    def __init__(self) -> None:
        self.noting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Check that the functions exist. While the database is unavailable, this is skipped: pages show that it is.

        Raises:
            ArbiterMissing: `migrate` was not run with this code.
        """
        await self._note()
        self.noting = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        if self.noting is not None:
            self.noting.cancel()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            try:
                await self._note()
            except functions.ArbiterMissing as error:
                logger.error("%s", error)

    async def _note(self) -> None:
        try:
            async with await connect("gateway pages") as connection:
                await functions.note_use(connection)
        except psycopg.Error as error:
            logger.warning("can't note that pages use the arbiter: the database failed (%s)", type(error).__name__)
