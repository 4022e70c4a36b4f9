"""Anthropic's pages: `limit`, `after_id` and `before_id` in, `has_more`, `first_id` and `last_id` out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from django.http import QueryDict

from messages_api.server import errors

DEFAULT_LIMIT = 20
MOST = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of a list that a client asks for."""

    limit: int
    after: str
    before: str

    @classmethod
    def read(cls, query: QueryDict) -> Self:
        """Read a query string.

        Raises:
            GatewayError: 400, a parameter is invalid, or excludes another.
        """
        limit = limit_of(query)
        after, before = query.get("after_id", ""), query.get("before_id", "")
        if after and before:
            raise errors.invalid_request("after_id, before_id: use only one of these parameters.")
        return cls(limit, after, before)


def limit_of(query: QueryDict) -> int:
    """The most entries of a page.

    Raises:
        GatewayError: 400, the limit is out of range.
    """
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,9}", limit) or not 1 <= int(limit) <= MOST:
        raise errors.invalid_request(f"limit: must be a whole number from 1 to {MOST}.")
    return int(limit)


def page(entries: Sequence[tuple[str, bytes]], *, has_more: bool) -> bytes:
    """The JSON of a page of these (id, JSON) entries."""
    first, last = (json.dumps(entries[at][0] if entries else None).encode() for at in (0, -1))
    data = b",".join(entry for _, entry in entries)
    more = b"true" if has_more else b"false"
    return b'{"data":[%b],"has_more":%b,"first_id":%b,"last_id":%b}' % (data, more, first, last)
