"""Files: stored at the provider, owned by the team of the key that uploaded them.

Their bytes only pass through. The provider knows which files its account has; the gateway's table knows who owns each.
A request for another team's file gets a 404 without a call to the provider.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass

import psycopg
from django.http.response import HttpResponseBase

from keys.directory import KnownKey, KnownProviderKey
from messages_api.providers import Outgoing
from messages_api.providers.paths import is_id
from messages_api.relay import attempts, routing
from messages_api.relay.call import Call, Endpoint
from messages_api.relay.caller import Caller
from messages_api.relay.download import Download
from messages_api.relay.incoming import Incoming
from messages_api.relay.routing import Choose
from messages_api.relay.runtime import Runtime
from messages_api.relay.story import admit, render, under_way
from messages_api.request.schema import MessagesRequest
from messages_api.server import errors
from messages_api.server.errors import GatewayError
from messages_api.server.handler import ApiRequest, RawResponse
from messages_api.upstream.client import Body, UpstreamError, read_all

logger = logging.getLogger(__name__)

PATH = "/v1/files"
UPLOAD = Endpoint("files.upload", PATH, free=True)
LIST = Endpoint("files.list", PATH, free=True)
GET = Endpoint("files.get", PATH, free=True)
CONTENT = Endpoint("files.content", PATH, free=True)
DELETE = Endpoint("files.delete", PATH, free=True)

NO_MODEL = MessagesRequest("", 0, False)
# Bytes of the body of a request that should have none.
MOST_BODY = 64 * 1024
# The most time to write a new file's row; after that, the file is deleted again.
KEEP_SECONDS = 5
# The gateway's own requests about a file: seconds for an answer, and bytes of it.
ASK_SECONDS = 10
MOST_DESCRIBED = 64 * 1024
COLUMNS = "f.id, f.virtual_key_id, f.team_id, f.provider_key_id, f.organization_id, f.workspace_id, f.described"
FIND = f"SELECT {COLUMNS} FROM messages_api_file f WHERE f.id = %s AND f.deleted_at IS NULL"  # noqa: S608
KEEP = """
INSERT INTO messages_api_file
    (id, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id, described, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp()) ON CONFLICT (id) DO NOTHING
"""
DESCRIBE = "UPDATE messages_api_file SET described = %s WHERE id = %s"
MARK_DELETED = "UPDATE messages_api_file SET deleted_at = clock_timestamp() WHERE id = %s AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file's row in the gateway's table."""

    id: str
    virtual_key: int
    team: int | None
    provider_key: int | None
    organization: str
    workspace: str
    described: str

    def belongs_to(self, key: KnownKey) -> bool:
        """Whether the key, or its team, owns the file."""
        return self.virtual_key == key.id if self.team is None else self.team == key.team


def missing(file_id: str) -> GatewayError:
    """The caller has no such file. The error doesn't reveal whether another team has it."""
    return errors.not_found(f"File not found: {file_id[:200]}", reason="unknown_file")


# Where a call goes


def home(key: KnownKey) -> KnownProviderKey:
    """The provider key that stores the uploads of this key's team: always the same one while the key routes to it.

    Raises:
        GatewayError: 404, none of the key's providers stores files.
    """
    able = [(provider_key, weight) for provider_key, weight in key.routes if provider_key.kind.has_files]
    if not able:
        raise errors.not_found(
            "None of this virtual key's providers stores files: only anthropic does.", reason="no_file_provider"
        )
    owner = f"key {key.id}" if key.team is None else f"team {key.team}"
    return routing.rendezvous(owner, able)


def holder(file: KnownFile) -> Choose:
    """Chooses the provider key that reaches a file."""

    def choose(key: KnownKey) -> KnownProviderKey:
        if not file.belongs_to(key):
            raise missing(file.id)
        found = routing.home(key, file.provider_key, (file.organization, file.workspace))
        if found is not None:
            return found
        raise errors.not_found(
            f"File not found: {file.id}: it is stored in a provider's account to which this virtual key has no"
            " provider key (any more).",
            reason="file_out_of_reach",
        )

    return choose


# Calls that reach the provider


async def upload(caller: Caller) -> HttpResponseBase:
    """Relay an upload while it arrives. Once its body is complete, the upload goes on even if the client disconnects:
    otherwise the provider would have a file without an owner.

    Raises:
        GatewayError: the call was refused, or the file's row could not be written.
    """
    here = caller.runtime
    body = caller.http.stream_body(here.configuration.max_file_bytes, watch=False)
    incoming = Incoming(caller, UPLOAD, NO_MODEL, body, routing.only(home))
    call = await admit(incoming)
    with under_way(call):
        answer = await attempts.make_once(call, incoming)
        response = await render(here, call, answer)
        if response.status_code == 200 and isinstance(response, RawResponse) and not call.key.passthrough:
            await keep(here, call, response.body)
        return response


async def relay_list(caller: Caller) -> HttpResponseBase:
    """The provider's own list, for a client with a provider's key.

    Raises:
        GatewayError: the call was refused, or failed at the provider.
    """
    body = await caller.http.read_body(MOST_BODY)
    return await relay(Incoming(caller, LIST, NO_MODEL, body, routing.only(home)))


async def relay_one(caller: Caller, endpoint: Endpoint, file_id: str) -> HttpResponseBase:
    """A call about one file: its metadata, its content, or its deletion.

    Raises:
        GatewayError: the call was refused, or failed at the provider.
    """
    choose: Choose = home
    file: KnownFile | None = None
    if caller.key.passthrough:
        if not is_id(file_id):
            raise missing(file_id)
    else:
        file, caller = await find(caller, endpoint, file_id)
        choose = holder(file)
    body = await caller.http.read_body(MOST_BODY)
    path = f"{PATH}/{file_id}" + ("/content" if endpoint is CONTENT else "")
    response = await relay(Incoming(caller, endpoint, NO_MODEL, body, routing.only(choose), path))
    if file is not None and isinstance(response, RawResponse):
        await note(caller.runtime, file, endpoint, response)
    return response


async def relay(incoming: Incoming) -> HttpResponseBase:
    """Admit a call and make it; a file's content goes to the client while it arrives.

    Raises:
        GatewayError: the call was refused, or failed at the provider.
    """
    call = await admit(incoming)
    with under_way(call):
        answer = await attempts.make_once(call, incoming)
        if incoming.endpoint is CONTENT and 200 <= answer.status < 300:
            return Download(call, answer)
        return await render(incoming.runtime, call, answer)


async def note(here: Runtime, file: KnownFile, endpoint: Endpoint, response: RawResponse) -> None:
    """Store what the provider's answer says about a file. A failure is harmless: a later answer says it again."""
    try:
        if endpoint is DELETE and response.status_code in (200, 404):
            await here.records.fetch(MARK_DELETED, (file.id,))
        elif endpoint is GET and response.status_code == 200:
            described = description(response.body, file.id)
            if described and described != file.described:
                await here.records.fetch(DESCRIBE, (described, file.id))
    except psycopg.Error as error:
        logger.warning("the description of file %s could not be updated (%s)", file.id, type(error).__name__)


# The gateway's rows


async def find(caller: Caller, endpoint: Endpoint, file_id: str) -> tuple[KnownFile, Caller]:
    """A file of this caller's team, and the caller (identified again if the file wasn't found at first).

    Raises:
        GatewayError: 404, the team has no such file; or the key may not call at all.
    """
    rows = await caller.runtime.records.ask(FIND, (file_id,)) if is_id(file_id) else []
    file = KnownFile(*rows[0]) if rows else None
    if file is None or not file.belongs_to(caller.key):
        # The key may be outdated: check it before a refusal. An error about the key takes precedence.
        caller = await caller.permit(endpoint.name)
        if file is None or not file.belongs_to(caller.key):
            raise missing(file_id)
    return file, caller


async def keep(here: Runtime, call: Call, body: bytes) -> None:
    """Write the row of a new file, before the client gets its answer.

    Raises:
        GatewayError: 503, the row can't be written; the file is deleted again.
    """
    file_id = id_of(body)
    if not file_id:
        logger.error("call %s: the provider's answer to the upload names no file", call.id)
        return
    values = (
        file_id,
        call.key.id,
        call.key.team,
        call.provider_key.id,
        *call.account,
        # If this is empty, listing the file asks the provider.
        description(body, file_id),
    )
    # Not asyncio.timeout: a task that is cancelled in the middle of a statement waits for the database again.
    writing = asyncio.ensure_future(here.records.fetch(KEEP, values))
    await asyncio.wait((writing,), timeout=KEEP_SECONDS)
    if writing.done() and writing.exception() is None:
        return
    error = writing.exception() if writing.done() else TimeoutError()
    logger.error("the row of file %s could not be written (%s)", file_id, type(error).__name__)
    writing.cancel()
    await discard(here, call, file_id)
    # The row may have been written after all.
    here.errands.write(MARK_DELETED, (file_id,))
    raise errors.unavailable(
        "The gateway's database is unavailable: the file could not be stored, and was deleted again.",
        reason="database_away",
        retry_after=2,
    )


async def discard(here: Runtime, call: Call, file_id: str) -> None:
    """Delete a file at the provider that has no row, and so no owner."""
    try:
        status, _ = await ask(here, call.http_request, call.provider_key, "DELETE", file_id)
    except (UpstreamError, TimeoutError):
        status = 0
    if status not in (200, 404):
        logger.error("file %s stays at provider key %s without an owner here", file_id, call.provider_key.name)


def id_of(body: bytes) -> str:
    """The id of the file that a provider's answer describes; empty: it describes none."""
    try:
        described = json.loads(body.decode())
    except (ValueError, RecursionError):
        return ""
    found = described.get("id") if isinstance(described, dict) else None
    return found if isinstance(found, str) and is_id(found) else ""


def description(body: bytes, file_id: str) -> str:
    """A provider's answer if it describes this file and is short enough to store; else empty."""
    return body.decode() if len(body) <= MOST_DESCRIBED and id_of(body) == file_id else ""


async def ask(
    here: Runtime, http: ApiRequest, provider_key: KnownProviderKey, method: str, file_id: str
) -> tuple[int, bytes]:
    """The provider's answer to the gateway's own request about a file, in the client's version of the API.

    A name that can't be an id is a 404 without a request: a model's answer may have named anything.

    Raises:
        UpstreamError, TimeoutError: there was no complete answer.
    """
    if not is_id(file_id):
        return 404, b""
    scope = http.scope
    versions = [(name, value) for name, value in scope["headers"] if name in (b"anthropic-version", b"anthropic-beta")]
    body: Body = b""
    outgoing = Outgoing(method, f"{PATH}/{file_id}", b"", versions, body, provider_key, lambda: None)
    async with asyncio.timeout(ASK_SECONDS):
        answer = await here.providers[provider_key.provider].send(outgoing)
        try:
            # One byte more shows that the answer is too long.
            return answer.status, await read_all(answer.read, MOST_DESCRIBED + 1, cut=True)
        finally:
            answer.close()
