"""The models that providers listed, as a web process knows them. It reloads all lists when the catalogue changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keys.connection import Reader

LISTED = """
SELECT l.provider_key_id, m.info ->> 'id', coalesce(m.info ->> 'lifecycle', 'active'), m.info::text
FROM keys_modellist l, jsonb_array_elements(l.listed) WITH ORDINALITY AS m (info, position)
ORDER BY l.provider_key_id, m.position
"""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as a provider describes it. `info` is the provider's JSON."""

    id: str
    lifecycle: str
    info: str


class ModelLists:
    """The models that the provider of each provider key listed, by the provider key's id, in the provider's order."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.lists: dict[int, list[ListedModel]] = {}
        self.revision: int | None = None

    async def at(self, revision: int) -> Mapping[int, list[ListedModel]]:
        """The lists at this revision of the catalogue or a later one.

        Raises:
            psycopg.Error: the lists must be reloaded, and the database is unavailable.
        """
        if revision != self.revision:
            lists: dict[int, list[ListedModel]] = {}
            for provider_key, *model in await self.reader.fetch(LISTED):
                lists.setdefault(provider_key, []).append(ListedModel(*model))
            self.lists, self.revision = lists, revision
        return self.lists
