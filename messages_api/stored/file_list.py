"""The list of a team's files: from the gateway's table, newest first, for clients of both generations of the API.

The first generation pages by `after_id` and `before_id`; the second by an opaque `page`, or asks for `ids`.
Source: `pagination.py` and `resources/files.py` of Anthropic's Python SDKs 0.121 and 2.12.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from django.http import QueryDict

from keys.directory import KnownKey
from messages_api.relay.caller import Caller
from messages_api.relay.runtime import Runtime
from messages_api.server import errors, paging
from messages_api.server.handler import ApiRequest
from messages_api.stored.files import (
    COLUMNS,
    DESCRIBE,
    MARK_DELETED,
    KnownFile,
    ask,
    description,
    holder,
)
from messages_api.upstream.client import UpstreamError
from usage.arbitration import clean

# The most ids in one request, as at Anthropic.
MOST_IDS = 100
CURSOR = "page_"
# The provider is asked to describe files that a model made: seconds for a page, and requests at a time.
DESCRIBE_SECONDS = 30
AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class FileQuery:
    """What a client asks for: a page of the list, or the files of `ids`."""

    limit: int
    after: str
    before: str
    ids: tuple[str, ...]
    # The parameter that names the place in the list.
    cursor: str

    @classmethod
    def read(cls, query: QueryDict) -> Self:
        """Read a query string of either generation of the API.

        Raises:
            GatewayError: 400, a parameter is invalid, or excludes another.
        """
        given = [name for name in ("after_id", "before_id", "page") if query.get(name)]
        if len(given) > 1:
            raise errors.invalid_request(f"{', '.join(given)}: use only one of these parameters.")
        ids = tuple(dict.fromkeys((*query.getlist("ids[]"), *query.getlist("ids"))))
        others = given + ["limit"] * ("limit" in query)
        if ids and others:
            raise errors.invalid_request(f"ids, {', '.join(others)}: can't be combined.")
        if len(ids) > MOST_IDS:
            raise errors.invalid_request(f"ids: at most {MOST_IDS} per request.")
        if query.get("scope_id"):
            raise errors.invalid_request("scope_id: not supported: this gateway lists all files of your team.")
        cursor = query.get("page", "")
        after = place_of(cursor) if cursor else query.get("after_id", "")
        return cls(
            paging.limit_of(query),
            clean(after),
            clean(query.get("before_id", "")),
            tuple(map(clean, ids)),
            given[0] if given else "",
        )


def cursor_of(file_id: str) -> str:
    """The name of the page that follows a file."""
    return CURSOR + base64.urlsafe_b64encode(file_id.encode()).decode().rstrip("=")


def place_of(cursor: str) -> str:
    """The id of the file that a page follows.

    Raises:
        GatewayError: 400, this isn't the name of a page.
    """
    try:
        encoded = cursor.removeprefix(CURSOR).encode("ascii")
        found = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        found = ""
    if not found or not cursor.startswith(CURSOR):
        raise errors.invalid_request("page: must be the next_page of an earlier answer.")
    return found


async def page(caller: Caller, wanted: FileQuery) -> bytes:
    """The JSON of one page, for clients of both generations.

    Raises:
        GatewayError: 400, the list has no file of the given id; 503, the provider can't describe a file of the page.
    """
    here, http, key = caller.runtime, caller.http, caller.key
    while True:
        files, more = await select(here, key, wanted)
        unknown = [file for file in files if not file.described]
        if not unknown:
            return page_of(files, more, wanted)
        # Files that a model made have no description yet. The provider describes each, or has lost it: then the row is
        # marked as deleted, and another file takes its place on the page.
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                for start in range(0, len(unknown), AT_A_TIME):
                    some = unknown[start : start + AT_A_TIME]
                    await asyncio.gather(*(describe(here, http, key, file) for file in some))
        except (TimeoutError, UpstreamError):
            raise errors.unavailable(
                "The provider can't describe some of the files now: try again.",
                reason="files_undescribed",
                retry_after=5,
            ) from None


async def describe(here: Runtime, http: ApiRequest, key: KnownKey, file: KnownFile) -> None:
    """Store the provider's description of a file, or that the file is gone.

    Raises:
        UpstreamError, TimeoutError: the provider says neither.
    """
    status, body = await ask(here, http, holder(file)(key), "GET", file.id)
    described = description(body, file.id) if status == 200 else ""
    if described:
        await here.records.ask(DESCRIBE, (described, file.id))
    elif status == 404:
        await here.records.ask(MARK_DELETED, (file.id,))
    else:
        raise UpstreamError("no_answer", sent=True)


async def select(here: Runtime, key: KnownKey, wanted: FileQuery) -> tuple[list[KnownFile], bool]:
    """The files of a page, newest first, and whether more follow in the direction of the page.

    Raises:
        GatewayError: 400, the list has no file of the given id.
    """
    owned = "(f.team_id = %s OR f.team_id IS NULL AND f.virtual_key_id = %s)"
    owner = (key.team, key.id)
    reached = [provider_key.id for provider_key, _ in key.routes if provider_key.kind.has_files]
    # A file without a description is left out if the key can't reach the account that stores it.
    conditions = f"{owned} AND f.deleted_at IS NULL AND (f.described <> '' OR f.provider_key_id = ANY(%s::bigint[]))"
    values: list[object] = [*owner, reached]
    order, limit = "f.created_at DESC, f.id", wanted.limit + 1
    if wanted.ids:
        conditions += " AND f.id = ANY(%s::text[])"
        values.append(list(wanted.ids))
        limit = MOST_IDS
    elif wanted.cursor:
        place = wanted.after or wanted.before
        # A file that was deleted meanwhile still has its place in the list.
        place_query = f"SELECT f.created_at FROM messages_api_file f WHERE {owned} AND f.id = %s"  # noqa: S608
        rows = await here.records.ask(place_query, (*owner, place))
        if not rows:
            raise errors.invalid_request(f"{wanted.cursor}: this list has no such file.")
        if wanted.before:
            order = "f.created_at, f.id DESC"
            conditions += " AND f.created_at >= %s AND (f.created_at > %s OR f.id < %s)"
        else:
            conditions += " AND f.created_at <= %s AND (f.created_at < %s OR f.id > %s)"
        values += [rows[0][0], rows[0][0], place]
    query = f"SELECT {COLUMNS} FROM messages_api_file f WHERE {conditions} ORDER BY {order} LIMIT %s"  # noqa: S608
    rows = await here.records.ask(query, [*values, limit])
    files = [KnownFile(*row) for row in rows]
    if wanted.ids:
        return files, False
    chosen, more = files[: wanted.limit], len(files) > wanted.limit
    return (chosen[::-1] if wanted.before else chosen), more


def page_of(files: Sequence[KnownFile], more: bool, wanted: FileQuery) -> bytes:
    """A page's JSON: `has_more`, `first_id` and `last_id` are for the first generation, `next_page` for the second."""
    first, last = (files[at].id if files else None for at in (0, -1))
    following = cursor_of(last) if last and more and not wanted.before else None
    members = {"has_more": more, "first_id": first, "last_id": last, "next_page": following}
    data = ",".join(file.described for file in files)
    return f'{{"data":[{data}],{json.dumps(members)[1:]}'.encode()
