"""How provider keys have done lately, as a process needs it for adaptive weights; `usage.performance` finds it out."""

from __future__ import annotations

from keys.connection import Reader
from keys.directory import KnownProviderKey

READ = "SELECT provider_key_id, model, share FROM keys_performance WHERE share < 1"


class Performances:
    """Read every second by each process: the same on all of them, so that a conversation stays where it is."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.shares: dict[tuple[int | None, str], float] = {}

    async def read(self) -> None:
        """Take in what is written.

        Raises:
            psycopg.Error: the database is away.
        """
        self.shares = {(provider_key, model): share for provider_key, model, share in await self.reader.fetch(READ)}

    def share(self, provider_key: KnownProviderKey, model: str) -> float:
        """The part of its weight that it keeps for this model. No I/O."""
        return self.shares.get((provider_key.id, model), 1.0) if self.shares else 1.0
