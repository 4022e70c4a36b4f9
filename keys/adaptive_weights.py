"""The recent performance of provider keys, which adaptive weights follow. `usage.performance` measures it."""

from __future__ import annotations

from keys.connection import Reader
from keys.directory import KnownProviderKey

READ = "SELECT provider_key_id, model, share FROM keys_performance WHERE share < 1"


class Performances:
    """The shares, reloaded every second. All processes use the same ones, so a conversation keeps its provider key."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.shares: dict[tuple[int | None, str], float] = {}

    async def read(self) -> None:
        """Reload all shares.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        self.shares = {(provider_key, model): share for provider_key, model, share in await self.reader.fetch(READ)}

    def share(self, provider_key: KnownProviderKey, model: str) -> float:
        """The part of its weight that a provider key keeps for this model, from 0 to 1. No I/O."""
        return self.shares.get((provider_key.id, model), 1.0) if self.shares else 1.0
