"""Existing message batches: only their own virtual key can see them, and they are settled line by line.

An owner who reads the results settles them along the way (answer/batch_results.py); otherwise batch_upkeep.py does.
https://docs.claude.com/en/api/creating-message-batches
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace
from typing import Any

import psycopg
from django.http.response import HttpResponseBase

from keys.directory import KnownKey, KnownProviderKey
from messages_api.answer.batch_results import SETTLE, KnownBatch, ResultsMeter
from messages_api.answer.metering import Reading
from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode
from messages_api.providers.paths import is_id
from messages_api.relay import attempts, routing, story
from messages_api.relay.call import Call, Endpoint
from messages_api.relay.caller import Caller
from messages_api.relay.download import Download
from messages_api.relay.incoming import Incoming
from messages_api.relay.runtime import Runtime
from messages_api.request.schema import MessagesRequest
from messages_api.server import errors, paging
from messages_api.server.errors import GatewayError
from messages_api.server.paging import Wanted
from messages_api.stored.batch_rows import AFTER, BEFORE, DESCRIBE, FIND, FORGET, LIST, PORTION, description
from messages_api.stored.batch_urls import PATH, shown, whereabouts, with_our_url, with_our_urls
from messages_api.upstream.client import Answer, UpstreamError
from usage.models import Status
from usage.request_ids import new_id

logger = logging.getLogger(__name__)

GET = Endpoint("batches.get", PATH, free=True)
CANCEL = Endpoint("batches.cancel", PATH, free=True)
DELETE = Endpoint("batches.delete", PATH, free=True)
RESULTS = Endpoint("batches.results", PATH, free=True)
TAIL = {CANCEL.name: "/cancel", RESULTS.name: "/results"}

# Bytes of results that are read at a time: a line may be short, and takes up to 100 microseconds.
PIECE = 8 << 10

NOTHING = MessagesRequest("", 0, False)
# Seconds for the results of a batch that is about to be deleted.
SETTLE_SECONDS = 60
# Bytes of a request about a batch; it needs no body.
SMALL = 1 << 20


async def reach(caller: Caller, name: str, endpoint: Endpoint) -> HttpResponseBase:
    """Describe, cancel or delete a batch.

    Raises:
        GatewayError: 404, the caller has no batch with this id; or the call was refused, or not answered.
    """
    runtime = caller.runtime
    batch = await find(caller, name)
    if endpoint is DELETE and batch is not None and not batch.settled:
        await settle(caller, batch)
    incoming = await incoming_about(caller, batch, name, endpoint)
    call = await story.admit(incoming)
    with story.under_way(call):
        answer = await attempts.make_once(call, incoming)
        response = await story.render(runtime, call, answer)
    if batch is not None and answer.status == 200:
        if endpoint is DELETE:
            await runtime.records.ask(FORGET, [batch.id])
        else:
            await runtime.records.ask(DESCRIBE, description(batch.id, response.body))
    return shown(call, answer, response.body, name)


async def results(caller: Caller, name: str) -> HttpResponseBase:
    """Relay a batch's results while they arrive, and settle their cost line by line.

    Raises:
        GatewayError: as `reach`.
    """
    runtime = caller.runtime
    batch = await find(caller, name)
    incoming = await incoming_about(caller, batch, name, RESULTS)
    call = await story.admit(incoming)
    with story.under_way(call):
        answer = await attempts.make_once(call, incoming)
        if answer.status != 200:
            return await story.render(runtime, call, answer)
        return Download(call, answer, Settling(runtime, call, batch) if batch is not None else None)


class Settling:
    """Settles results while they pass, and stores what they bind to their account. If the database is unavailable, or
    the results are incomplete, they still pass, and messages_api/stored/batch_upkeep.py settles them later.
    """

    def __init__(self, runtime: Runtime, call: Call, batch: KnownBatch) -> None:
        self.runtime = runtime
        self.call = call
        self.batch = batch
        self.meter = ResultsMeter(batch, runtime.prices.price, runtime.prices.book.unpriced())
        self.complete = False
        self.given_up = batch.settled

    async def chunk(self, chunk: bytes) -> None:
        """Read the next bytes."""
        for start in range(0, len(chunk), PIECE):
            if start:
                await asyncio.sleep(0)
            self.meter.feed(chunk[start : start + PIECE])
            while len(self.meter.waiting) >= PORTION:
                await self._settle(last=False)
        await self._bind()

    async def end(self) -> None:
        """Finish: all results have been read."""
        self.complete = self.meter.finish()
        await self._bind()
        while len(self.meter.waiting) > PORTION:
            await self._settle(last=False)
        await self._settle(last=self.complete)

    async def _bind(self) -> None:
        states, self.meter.states = self.meter.states, []
        if states:
            await self.runtime.bindings.keep(self.call, states)

    async def _settle(self, *, last: bool) -> None:
        lines = self.meter.take(PORTION).decode()
        if self.given_up:
            return
        try:
            await self.runtime.records.fetch(SETTLE, {"id": self.batch.id, "lines": lines, "last": last})
        except psycopg.Error as error:
            logger.error("batch %s can't be settled now; a task will do it (%s)", self.batch.id, type(error).__name__)
            self.given_up = True


async def settle(caller: Caller, batch: KnownBatch) -> None:
    """Read the results of a batch that is about to be deleted, only to settle them. A batch that has not ended has no
    results, and the provider won't delete it.

    Raises:
        GatewayError: 503, they can't be read or settled now.
    """
    runtime, name = caller.runtime, batch.provider_batch_id
    incoming = await incoming_about(caller, batch, name, GET)
    call = await story.admit(replace(incoming, id=new_id()))
    with story.under_way(call):
        described = await story.render(runtime, call, await attempts.make_once(call, incoming))
    state = mapping(decode(described.body)).get("processing_status")
    if described.status_code == 404 or state in ("in_progress", "canceling"):
        return
    incoming = await incoming_about(caller, batch, name, RESULTS)
    call = await story.admit(replace(incoming, id=new_id()))
    settling = Settling(runtime, call, batch)
    with story.under_way(call):
        answer = await attempts.make_once(call, incoming)
        if answer.status != 200:
            await story.render(runtime, call, answer)
            raise unsettled()
        deadline = time.monotonic() + SETTLE_SECONDS
        try:
            while chunk := await read_until(answer, deadline):
                await settling.chunk(chunk)
        except UpstreamError as error:
            raise attempts.settle_failure(call, error) from None
        except TimeoutError:
            raise unsettled() from None
        finally:
            answer.close()
        await settling.end()
        call.finish(Status.COMPLETED, Reading())
    if settling.given_up or not settling.complete:
        raise unsettled()


async def read_until(answer: Answer, deadline: float) -> bytes:
    """The next bytes of an answer.

    Raises:
        TimeoutError: the next bytes, or the whole answer, take too long. UpstreamError: the answer was cut off.
    """
    left = deadline - time.monotonic()
    if left < 0:
        raise TimeoutError
    async with asyncio.timeout(left):
        return await answer.read()


def unsettled() -> GatewayError:
    """The error for a batch that can't be deleted yet, because its cost would then stay unknown."""
    return errors.unavailable(
        "The results of this batch can't be read and settled now, so it is not deleted: try again later.",
        reason="batch_unsettled",
        retry_after=60,
    )


async def page(caller: Caller, wanted: Wanted) -> bytes:
    """The JSON of a page of the caller's batches, newest first, with the provider's latest descriptions.

    Raises:
        GatewayError: 400, the list has no batch with the given id; 503, the database is unavailable.
    """
    cursor = wanted.after or wanted.before
    values: dict[str, Any] = {"key": caller.key.id, "limit": wanted.limit + 1}
    if cursor:
        if not is_id(cursor):
            raise errors.invalid_request(f"{'after_id' if wanted.after else 'before_id'}: This is not a batch's id.")
        found = await find(caller, cursor, or_none=True)
        if found is None:
            raise errors.invalid_request(f"{'after_id' if wanted.after else 'before_id'}: This list has no such batch.")
        values["cursor"] = found.id
    rows = await caller.runtime.records.ask(BEFORE if wanted.before else AFTER if cursor else LIST, values)
    has_more = len(rows) > wanted.limit
    chosen = rows[: wanted.limit]
    if wanted.before:
        chosen.reverse()
    base = whereabouts(caller.http)
    entries = [(name, with_our_url((described or bare(name)).encode(), base, name)) for name, described in chosen]
    return paging.page(entries, has_more=has_more)


async def relay_page(caller: Caller) -> HttpResponseBase:
    """Relay the provider's own list, for a caller with a provider's own key.

    Raises:
        GatewayError: as `reach`.
    """

    def choose(known: KnownKey) -> KnownProviderKey:
        return known.routes[0][0]

    incoming = Incoming(caller, GET, NOTHING, await caller.http.read_body(SMALL), routing.only(choose))
    call = await story.admit(incoming)
    with story.under_way(call):
        answer = await attempts.make_once(call, incoming)
        response = await story.render(caller.runtime, call, answer)
    base = whereabouts(caller.http)
    return story.response(call, answer, with_our_urls(response.body, base))


# Which one, and where it is


async def find(caller: Caller, name: str, *, or_none: bool = False) -> KnownBatch | None:
    """The caller's batch with this id. None if a caller with a provider's own key has no such row: the batch may have
    been created elsewhere.

    Raises:
        GatewayError: 404, the caller has no such batch; 503, the database is unavailable.
    """
    rows = await caller.runtime.records.ask(FIND, [caller.key.id, name])
    if rows:
        return KnownBatch(*rows[0])
    if caller.key.passthrough or or_none:
        return None
    raise errors.not_found(f"Message batch not found: {name}", reason="unknown_batch")


async def incoming_about(caller: Caller, batch: KnownBatch | None, name: str, endpoint: Endpoint) -> Incoming:
    """A request about a batch."""

    def choose(known: KnownKey) -> KnownProviderKey:
        return home(known, batch, name)

    http = caller.http
    body = http.body if http.body_is_read else await http.read_body(SMALL)
    method = "GET" if endpoint in (GET, RESULTS) else ""
    path = f"{PATH}/{name}" + TAIL.get(endpoint.name, "")
    return Incoming(caller, endpoint, NOTHING, body, routing.only(choose), path=path, method=method)


def home(key: KnownKey, batch: KnownBatch | None, name: str) -> KnownProviderKey:
    """The provider key that reaches a batch.

    Raises:
        GatewayError: 404, the virtual key no longer maps to one.
    """
    where = None if batch is None else batch.provider_key
    account = ("", "") if batch is None else (batch.organization_id, batch.workspace_id)
    found = routing.home(key, where, account)
    if found is None:
        raise errors.not_found(
            f"Message batch not found: this virtual key no longer maps to the account of {name}.", reason="lost_batch"
        )
    return found


def bare(name: str) -> str:
    """A batch whose description isn't known, in Anthropic's shape."""
    return json.dumps({"id": name, "type": "message_batch"})
