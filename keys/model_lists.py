"""What a web process knows of the models that providers listed: all of it, read anew when the catalogue has moved."""

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
    """A model as a provider describes it; `info` is the JSON of that."""

    id: str
    lifecycle: str
    info: str


class ModelLists:
    """The models that each provider key's provider listed, by the provider key's id, in the provider's order."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.lists: dict[int, list[ListedModel]] = {}
        self.revision: int | None = None

    async def at(self, revision: int) -> Mapping[int, list[ListedModel]]:
        """The lists as they are at this revision of the catalogue, or later.

        Raises:
            psycopg.Error: they aren't known yet, and the database can't be asked.
        """
        if revision != self.revision:
            lists: dict[int, list[ListedModel]] = {}
            for provider_key, *model in await self.reader.fetch(LISTED):
                lists.setdefault(provider_key, []).append(ListedModel(*model))
            self.lists, self.revision = lists, revision
        return self.lists
