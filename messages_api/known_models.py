"""Which names of models mean something for a key, as far as this process knows without asking a provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg

from keys.directory import Directory, KnownKey
from keys.model_lists import ListedModel, ModelLists
from keys.model_names import fold
from messages_api import markers
from messages_api.database_away import DatabaseAway
from usage import pricing


class KnownModels:
    """What providers listed, as new as what the arbiter goes by."""

    def __init__(self, lists: ModelLists, directory: Directory) -> None:
        self._lists = lists
        self._directory = directory

    async def lists(self) -> Mapping[int, Sequence[ListedModel]]:
        """What each provider key's provider listed.

        Raises:
            GatewayError: 503, the database is away and it isn't known yet.
        """
        try:
            return await self._lists.at(self._directory.catalogue_revision)
        except psycopg.Error:
            raise DatabaseAway from None

    async def listed(self, key: KnownKey) -> list[str]:
        """What the providers of this key list, as far as that is known while the database is away."""
        try:
            lists = await self._lists.at(self._directory.catalogue_revision)
        except psycopg.Error:
            lists = self._lists.lists
        return [model.id for provider_key, _ in key.routes for model in lists.get(provider_key.id or 0, ())]

    async def marked(self, key: KnownKey) -> frozenset[str]:
        """The names that look like one with a client's marker (markers.py) and are an alias's, or a model's that the
        key leads to: one that was written out for a provider key, or that a provider lists. In lower case."""
        names = {*key.aliases, *await self.listed(key)}
        for provider_key, _ in key.routes:
            names.update(provider_key.model_patterns)
        return frozenset(fold(name) for name in names if name.endswith(markers.END))

    async def fallbacks(self, key: KnownKey) -> Sequence[str]:
        """The models that Anthropic may choose as fallbacks, as far as they are known: any Claude of its newest
        generations that has a price, or that a provider of this key lists."""
        listed = await self.listed(key)
        return (*pricing.current_models(), *(name for name in listed if pricing.is_current(name)))
