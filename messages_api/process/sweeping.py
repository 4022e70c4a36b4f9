"""The periodic work of a web process, every second, outside of requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import psycopg

logger = logging.getLogger(__name__)


async def sweep(steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run these steps in order every second, until cancelled. If one fails, the next round begins with the first."""
    while True:
        await asyncio.sleep(1)
        try:
            for step in steps:
                await step()
        except psycopg.Error as error:
            logger.warning("the database is unavailable (%s)", type(error).__name__)
        except Exception:
            logger.exception("sweeping failed")
