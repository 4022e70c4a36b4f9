"""The prices of models, as this process knows them: the catalogue with the deployment's own prices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from datetime import UTC, datetime

from keys.connection import Reader
from keys.directory import Directory
from messages_api.server import errors
from messages_api.server.database_away import asking
from usage import pricing
from usage.pricing import ModelPrice, Payer, PriceBook, UnpricedModel


class Prices:
    """The price book of one process, reloaded when the catalogue's revision changes."""

    def __init__(self, reader: Reader, directory: Directory) -> None:
        self.reader = reader
        self.directory = directory
        self._book: PriceBook | None = None
        self._revision = 0
        # Whether owners may pay something else than what the provider charges.
        self.owners_differ = False
        self._reading = asyncio.Lock()

    @property
    def book(self) -> PriceBook:
        """The price book. It is loaded when the process starts."""
        assert self._book is not None
        return self._book

    def price(self, provider: str, model: str, at: datetime, owner: Payer | None = None) -> ModelPrice:
        """The price of a model at that moment, with what this owner pays.

        Raises:
            UnpricedModel: it has no price, and the deployment refuses such models.
        """
        return self.book.price(provider, model, at, owner)

    def now(self, provider: str, model: str, owner: Payer | None = None) -> ModelPrice:
        """The price of a model now, with what this owner pays.

        Raises:
            GatewayError: 403, it has no price, and the deployment refuses such models.
        """
        try:
            return self.price(provider, model, datetime.now(UTC), owner)
        except UnpricedModel:
            raise errors.forbidden(
                f"The model {model} has no price, and this gateway refuses such models.", reason="unpriced_model"
            ) from None

    async def look_up(self, models: Collection[tuple[str, str]], owner: Payer) -> None:
        """Look up the prices of several models, each with its provider, and let other calls have their turns between
        them: a made-up name takes milliseconds, and callers choose the names. Without a price, `now` refuses."""
        if len(models) > 1:
            for provider, model in models:
                with contextlib.suppress(UnpricedModel):
                    self.price(provider, model, datetime.now(UTC), owner)
                await asyncio.sleep(0)

    @property
    def is_stale(self) -> bool:
        """Whether the catalogue's revision has changed since the prices were read."""
        return self._revision != self.directory.catalogue_revision

    async def refresh(self) -> None:
        """Reload the deployment's own prices if the catalogue's revision has changed.

        Raises:
            GatewayError: 503, the database is unavailable.
        """
        if self.is_stale:
            with asking:
                async with self._reading:
                    if self.is_stale:
                        await self.read()

    async def read(self) -> None:
        """Load the prices.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        revision = self.directory.catalogue_revision
        rows = await self.reader.fetch(pricing.PRICES_SQL)
        self._book = pricing.build(dict(zip(pricing.PRICE_COLUMNS, row, strict=True)) for row in rows)
        self.owners_differ = self._book.owners_differ
        self._revision = revision
