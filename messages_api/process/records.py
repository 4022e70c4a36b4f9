"""The connection to the tables of what is stored at providers (models.py). Routing uses another connection."""

from __future__ import annotations

from typing import Any

from keys.connection import Reader, Values
from messages_api.server.database_away import asking


class Records(Reader):
    """Reads and writes the rows of these tables."""

    async def ask(self, query: str, values: Values) -> list[tuple[Any, ...]]:
        """The rows of a query that a caller waits for.

        Raises:
            GatewayError: 503, the database is unavailable.
        """
        with asking:
            return await self.fetch(query, values)
