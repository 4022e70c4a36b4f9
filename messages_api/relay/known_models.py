"""The model names that a key can use, among those that this process knows without asking a provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg

from keys.directory import Directory, KnownKey
from keys.model_lists import ListedModel, ModelLists
from keys.model_names import fold
from messages_api.request import markers
from messages_api.server.database_away import DatabaseAway
from usage import pricing


class KnownModels:
    """The models that providers listed, at the revision that the arbiter uses, or a later one."""

    def __init__(self, lists: ModelLists, directory: Directory) -> None:
        self._lists = lists
        self._directory = directory

    async def lists(self) -> Mapping[int, Sequence[ListedModel]]:
        """The models that each provider key's provider listed.

        Raises:
            GatewayError: 503, the lists aren't known yet, and the database is unavailable.
        """
        try:
            return await self._lists.at(self._directory.catalogue_revision)
        except psycopg.Error:
            raise DatabaseAway from None

    async def listed(self, key: KnownKey) -> list[str]:
        """The models that this key's providers listed; while the database is unavailable, those that this process
        knows.
        """
        try:
            lists = await self._lists.at(self._directory.catalogue_revision)
        except psycopg.Error:
            lists = self._lists.lists
        return [model.id for provider_key, _ in key.routes for model in lists.get(provider_key.id or 0, ())]

    async def marked(self, key: KnownKey) -> frozenset[str]:
        """Real names that look as if they had a client's marker (request/markers.py): of an alias, or of a model that
        is written out for one of the key's provider keys or that its provider lists. In lower case.
        """
        names = {*key.aliases, *await self.listed(key)}
        for provider_key, _ in key.routes:
            names.update(provider_key.model_patterns)
        return frozenset(fold(name) for name in names if name.endswith(markers.END))

    async def fallbacks(self, key: KnownKey) -> Sequence[str]:
        """The known models that Anthropic may choose as fallbacks: each Claude of the newest generations that has a
        price, or that a provider of this key lists.
        """
        listed = await self.listed(key)
        return (*pricing.current_models(), *(name for name in listed if pricing.is_current(name)))
