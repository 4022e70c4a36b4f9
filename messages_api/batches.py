"""Message batches: made by a virtual key and visible to it alone, held as a whole, settled line by line.

A batch of ours is written before the provider hears of it, with the ceiling of its cost held until its results are
read: by its owner (messages_api/batch_results.py reads along), or by messages_api/batch_upkeep.py if nobody does.
https://docs.claude.com/en/api/creating-message-batches
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from django.conf import settings
from django.http.response import HttpResponseBase

from keys.directory import KnownKey, KnownProviderKey
from messages_api import attempts, batch_body, bindings, errors, holds, max_tokens, paging, relay, routing
from messages_api.batch_results import SETTLE, KnownBatch, ResultsMeter
from messages_api.bindings import Bound
from messages_api.call import Call, Endpoint
from messages_api.caller import Caller
from messages_api.download import Download
from messages_api.errors import GatewayError
from messages_api.handler import ApiRequest, RawResponse
from messages_api.holds import Held
from messages_api.incoming import Incoming
from messages_api.metering import Reading, decode, mapping, text
from messages_api.paging import Wanted
from messages_api.provider_paths import is_id
from messages_api.routing import Target
from messages_api.runtime import Runtime
from messages_api.schema import MessagesRequest
from messages_api.spooled_body import SpooledBody
from messages_api.upstream import Answer, UpstreamError
from usage import pricing
from usage.arbitration import Share
from usage.models import Status
from usage.request_ids import new_id

logger = logging.getLogger(__name__)

PATH = "/v1/messages/batches"
CREATE = Endpoint("batches.create", PATH, free=False)
GET = Endpoint("batches.get", PATH, free=True)
CANCEL = Endpoint("batches.cancel", PATH, free=True)
DELETE = Endpoint("batches.delete", PATH, free=True)
RESULTS = Endpoint("batches.results", PATH, free=True)

# A batch runs for a day at most, and its results can be read until 29 days after it was made; then we wait a day more.
HOLD_SECONDS = 30 * 86_400
# Models of requests that are priced, and lines that are settled, in one go.
PORTION = 200

NOTHING = MessagesRequest("", 0, False)
# For the results of a batch that is about to be deleted.
SETTLE_SECONDS = 60
# A body that nobody needs, of requests about a batch.
SMALL = 1 << 20
TAIL = {CANCEL.name: "/cancel", RESULTS.name: "/results"}
HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
RESULTS_URL = re.compile(rb'("results_url"\s*:\s*)"[^"]*"')

RESULTS_PATH = re.compile(rb'("results_url"\s*:\s*")[^"]*(/v1/messages/batches/[^"/]+/results")')

BEGIN = """
INSERT INTO messages_api_batch (id, process, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id,
    provider_batch_id, state, requests, settled_requests, ceiling, custom_ids, hour_writes, described)
SELECT h.id, %(process)s, h.virtual_key_id, h.team_id, h.provider_key, '', '', '', 'creating', %(requests)s, 0,
    h.ceiling, %(custom_ids)s, %(hour_writes)s, ''
FROM usage_hold h WHERE h.id = %(id)s
RETURNING id
"""
# The provider made it: its call has a row from now on, and the hold stays.
MADE = """
WITH opened AS (
    SELECT usage_open(%(settlement)s::jsonb || jsonb_build_object('client_labels', h.client_labels
        || jsonb_build_object('batch', %(provider_batch_id)s::text))) AS done
    FROM usage_hold h WHERE h.id = %(id)s
)
UPDATE messages_api_batch b SET state = 'running', process = NULL, provider_batch_id = %(provider_batch_id)s,
    described = %(described)s, asked_at = clock_timestamp(), organization_id = %(organization_id)s,
    workspace_id = %(workspace_id)s
FROM opened WHERE b.id = %(id)s AND b.state = 'creating'
RETURNING b.id
"""
DOUBT = "UPDATE messages_api_batch SET process = NULL WHERE id = %s AND state = 'creating' RETURNING id"
NEVER = "DELETE FROM messages_api_batch WHERE id = %s AND state = 'creating' RETURNING id"
DESCRIBE = """
UPDATE messages_api_batch SET described = %(described)s, asked_at = clock_timestamp(),
    ended_at = coalesce(ended_at, %(ended_at)s)
WHERE id = %(id)s RETURNING id
"""
FORGET = "UPDATE messages_api_batch SET deleted_at = clock_timestamp() WHERE id = %s RETURNING id"
COLUMNS = """
b.id, b.provider_batch_id, 'anthropic', b.provider_key_id, b.created_at, b.ended_at, b.requests, b.ceiling,
b.custom_ids, b.hour_writes, b.state <> 'running', b.organization_id, b.workspace_id
"""
FIND = f"""
SELECT {COLUMNS} FROM messages_api_batch b
WHERE b.virtual_key_id = %s AND b.provider_batch_id = %s AND b.deleted_at IS NULL
"""  # noqa: S608 - constants
OWN = """
SELECT provider_batch_id, described FROM messages_api_batch
WHERE virtual_key_id = %(key)s AND provider_batch_id <> '' AND deleted_at IS NULL
"""
LIST = OWN + "ORDER BY id DESC LIMIT %(limit)s"
AFTER = OWN + "AND id < %(cursor)s ORDER BY id DESC LIMIT %(limit)s"
BEFORE = OWN + "AND id > %(cursor)s ORDER BY id LIMIT %(limit)s"


@dataclass(slots=True, eq=False)
class BatchCall(Call):
    """The call that makes a batch. Where nobody knows whether the provider made it, its hold stays, and it is looked
    for (messages_api/batch_upkeep.py)."""

    def abandon(self, status: Status, reading: Reading, *, hidden: bool = True) -> None:
        if self.settled:
            return
        if self.attempt.sent:
            self.leave()
            self.surroundings.errands.write(DOUBT, [self.id])
        else:
            self.finish(status, reading, free=True)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        if not self.settled:
            super(BatchCall, self).finish(*args, **kwargs)
            self.surroundings.errands.write(NEVER, [self.id])

    def withdraw(self) -> None:
        if not self.settled:
            super(BatchCall, self).withdraw()
            self.surroundings.errands.write(NEVER, [self.id])


async def create(caller: Caller) -> HttpResponseBase:
    """Make a batch.

    Raises:
        GatewayError: it was refused, or the provider didn't answer.
    """
    runtime, http, key = caller.runtime, caller.http, caller.key
    with SpooledBody() as body:
        await body.receive(http, runtime.configuration.max_batch_bytes)
        real = await runtime.models.marked(key)
        async with turn_to_read(caller, body):
            asked = await batch_body.read_spooled(
                body,
                memory=runtime.configuration.batch_reader_bytes,
                signatures=bindings.several_accounts(key),
                real=real,
            )
        http.body_is_understood()
        models = asked.models
        http.requested_model = ", ".join(models)[:200]

        bound = await runtime.bindings.of_names(key, asked.carried)

        def choose(known: KnownKey) -> KnownProviderKey:
            check_max_tokens(known, asked.asked)
            return route(known, models, bound, str(http.id))

        held = await reckon(runtime, asked)
        model = models[0] if len(models) == 1 else ""
        request = MessagesRequest(model, 0, False, extras=asked.other_models)
        incoming = Incoming(caller, CREATE, request, body.outgoing(), routing.only(choose), held=held, opens=BatchCall)
        call = await relay.admit(incoming)
        with relay.under_way(call):
            await begin(runtime, call, asked)
            answer = await attempts.once(call, incoming)
            content = (await relay.read_whole(call, answer)).body
            name = text(mapping(decode(content)).get("id"))
            if 400 <= answer.status < 500:
                relay.settle_refusal(runtime, call, answer.status, content, Reading())
            elif answer.status == 200 and is_id(name):
                relay.note_taken(runtime, call)
                await record_made(runtime, call, content, name)
            else:
                # Whether it was made is to be found out; until then, what it may cost stays held.
                call.abandon(Status.FAILED, Reading())
                if answer.status < 500 or answer.status >= 600:
                    raise errors.bad_gateway("The provider's answer describes no batch.", reason="provider_status")
    return shown(call, answer, content)


def turn_to_read(caller: Caller, body: SpooledBody) -> AbstractAsyncContextManager[object]:
    """Within, a batch may be read: one at a time, by turns of the callers. A short one waits for nothing."""
    if body.size <= batch_body.SHORT:
        return nullcontext()
    return caller.runtime.reading_batches.turn(caller.name, body.size)


def route(key: KnownKey, models: list[str], bound: list[Bound], name: str) -> KnownProviderKey:
    """The provider key for a batch: one that serves all of its models, and has what its requests carry.

    Args:
        name: by which it is drawn, where there is a choice.

    Raises:
        GatewayError: 403, the key may not use one of the models; 404, there is no such provider key; as
            `bindings.narrow`.
    """
    able = [(provider_key, weight) for provider_key, weight in key.routes if provider_key.kind.has_batches]
    for model in models:
        places = [Target(provider_key, model) for provider_key, _ in able]
        if not any(key.allows(*routing.names(model, place)) for place in places) and (able or not key.allows(model)):
            raise errors.forbidden(f"This virtual key may not use the model {model}.", reason="model_not_allowed")
    if not able:
        raise errors.not_found("No provider of this key has message batches.", reason="no_batches")
    for model in models:
        if not any(provider_key.serves(model) for provider_key, _ in able):
            raise errors.not_found(f"model: {model}", reason="unknown_model")
    able = [route for route in able if all(route[0].serves(model) for model in models)]
    if not able:
        raise errors.not_found(
            f"requests: No single account serves all of {', '.join(models)}: make a batch for each.",
            reason="unknown_model",
        )
    return routing.rendezvous(name, bindings.narrow(key, ", ".join(models), able, bound))


def check_max_tokens(key: KnownKey, asked: list[batch_body.Asked]) -> None:
    """Check that no request of a batch asks for more than the key may.

    Raises:
        GatewayError: 400, naming the first that does.
    """
    if key.max_tokens is not None:
        for at, each in enumerate(asked):
            if each.max_tokens > key.max_tokens:
                max_tokens.check(key, f"requests.{at}.params.{each.max_tokens_in}", each.max_tokens)


async def reckon(runtime: Runtime, asked: batch_body.Batch) -> Held:
    """What to hold for a batch: the sum of what its requests may cost, at batch prices.

    Raises:
        GatewayError: 403, a model has no price, and the deployment refuses such models.
    """
    await runtime.prices.refresh()
    models = asked.models
    prices = {model: runtime.prices.now("anthropic", model) for model in models}
    allowances = runtime.configuration.allowances
    shares = {model: Share() for model in models}
    input_cost = Decimal(0)
    input_tokens = input_ceiling = output_tokens = priced = 0
    for each in asked.asked:
        price = prices[each.model]
        others = holds.other_prices(runtime.prices, "anthropic", each.extras)
        ceiling = each.estimate.ceiling_cost(each.max_tokens, price, *others, allowances=allowances, extras=each.extras)
        prompt = each.estimate.prompt(each.max_tokens, each.extras, allowances)
        most_read = prompt.tokens + prompt.besides
        share = shares[each.model]
        share.ceiling += ceiling * pricing.BATCH
        share.tokens += max(most_read, each.estimate.likely) + each.max_tokens
        share.also += [other for other in holds.meant_besides(each.extras) if other not in share.also]
        input_cost += each.estimate.likely_cost(price)
        input_tokens += each.estimate.likely
        input_ceiling += most_read
        output_tokens += each.max_tokens
        priced += 1 + len(others)
        if priced >= PORTION:
            priced = 0
            await asyncio.sleep(0)
    first = prices[models[0]]
    return Held(
        first,
        sum((share.ceiling for share in shares.values()), Decimal(0)),
        input_tokens,
        input_cost * pricing.BATCH,
        output_tokens,
        expires_seconds=HOLD_SECONDS,
        input_ceiling=input_ceiling,
        shares=shares if len(shares) > 1 or any(share.also for share in shares.values()) else None,
    )


async def begin(runtime: Runtime, call: Call, asked: batch_body.Batch) -> None:
    """Write the batch down before the provider hears of it.

    Raises:
        GatewayError: 503, the database is away.
    """
    values = {
        "id": call.id,
        "process": runtime.writer.process,
        "requests": len(asked.asked),
        "custom_ids": asked.custom_ids,
        "hour_writes": any(each.cache_writes != "5m" for each in asked.asked),
    }
    if not await runtime.records.ask(BEGIN, values):
        raise errors.unavailable("The batch could not be written down: try again.", reason="no_hold", retry_after=1)


async def record_made(runtime: Runtime, call: Call, content: bytes, name: str) -> None:
    """The provider made it. Where the database is away just now, that is written when it is back."""
    values = {
        "id": call.id,
        "provider_batch_id": name,
        "described": content.decode("utf-8", "replace").replace("\x00", ""),
        "organization_id": call.account[0],
        "workspace_id": call.account[1],
        "settlement": msgspec.json.encode(call.settlement(Status.COMPLETED, Reading(), free=True)).decode(),
    }
    call.leave()
    try:
        await runtime.records.ask(MADE, values)
    except GatewayError:
        runtime.errands.write(MADE, values)


# What can be done with one


async def reach(caller: Caller, name: str, endpoint: Endpoint) -> HttpResponseBase:
    """Describe, cancel or delete a batch.

    Raises:
        GatewayError: 404, the caller has none of this name; or the call was refused, or not answered.
    """
    runtime = caller.runtime
    batch = await find(caller, name)
    if endpoint is DELETE and batch is not None and not batch.settled:
        await settle(caller, batch)
    incoming = await incoming_about(caller, batch, name, endpoint)
    call = await relay.admit(incoming)
    with relay.under_way(call):
        answer = await attempts.once(call, incoming)
        response = await relay.render(runtime, call, answer)
    if batch is not None and answer.status == 200:
        if endpoint is DELETE:
            await runtime.records.ask(FORGET, [batch.id])
        else:
            await runtime.records.ask(DESCRIBE, description(batch.id, response.body))
    return shown(call, answer, response.body, name)


async def results(caller: Caller, name: str) -> HttpResponseBase:
    """A batch's results, line by line as they come; what they cost is settled along the way.

    Raises:
        GatewayError: as `reach`.
    """
    runtime = caller.runtime
    batch = await find(caller, name)
    incoming = await incoming_about(caller, batch, name, RESULTS)
    call = await relay.admit(incoming)
    with relay.under_way(call):
        answer = await attempts.once(call, incoming)
        if answer.status != 200:
            return await relay.render(runtime, call, answer)
        return Download(call, answer, Settling(runtime, call, batch) if batch is not None else None)


class Settling:
    """Settles results while they pass, and keeps what they bind to their account. Where the database is away, it lets
    them pass all the same, and leaves the settling to messages_api/batch_upkeep.py; so it does with results that end
    before they are complete."""

    def __init__(self, runtime: Runtime, call: Call, batch: KnownBatch) -> None:
        self.runtime = runtime
        self.call = call
        self.batch = batch
        self.meter = ResultsMeter(batch, runtime.prices.price, runtime.prices.book.unpriced())
        self.complete = False
        self.given_up = batch.settled

    async def chunk(self, chunk: bytes) -> None:
        """The next bytes."""
        self.meter.feed(chunk)
        if states := self.meter.states:
            self.meter.states = []
            await self.runtime.bindings.keep(self.call, states)
        while len(self.meter.waiting) >= PORTION:
            await self._settle(last=False)

    async def end(self) -> None:
        """All of it has been read."""
        self.complete = self.meter.finish()
        while len(self.meter.waiting) > PORTION:
            await self._settle(last=False)
        await self._settle(last=self.complete)

    async def _settle(self, *, last: bool) -> None:
        lines = self.meter.take(PORTION).decode()
        if self.given_up:
            return
        try:
            await self.runtime.records.fetch(SETTLE, {"id": self.batch.id, "lines": lines, "last": last})
        except psycopg.Error as error:
            logger.error("batch %s is settled later (%s)", self.batch.id, type(error).__name__)
            self.given_up = True


async def settle(caller: Caller, batch: KnownBatch) -> None:
    """Read the results of a batch that is about to be deleted, for nobody but the ledger. One that has not ended has
    none: the provider won't delete it either.

    Raises:
        GatewayError: 503, they can't be read or settled now.
    """
    runtime, name = caller.runtime, batch.provider_batch_id
    incoming = await incoming_about(caller, batch, name, GET)
    call = await relay.admit(replace(incoming, id=new_id()))
    with relay.under_way(call):
        said = await relay.render(runtime, call, await attempts.once(call, incoming))
    if said.status_code == 404 or mapping(decode(said.body)).get("processing_status") in ("in_progress", "canceling"):
        return
    incoming = await incoming_about(caller, batch, name, RESULTS)
    call = await relay.admit(replace(incoming, id=new_id()))
    settling = Settling(runtime, call, batch)
    with relay.under_way(call):
        answer = await attempts.once(call, incoming)
        if answer.status != 200:
            await relay.render(runtime, call, answer)
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
        TimeoutError: they, or all of them, take too long.
        UpstreamError: it broke off.
    """
    left = deadline - time.monotonic()
    if left < 0:
        raise TimeoutError
    async with asyncio.timeout(left):
        return await answer.read()


def unsettled() -> GatewayError:
    """A batch can't be deleted, for then nobody would ever know what it cost."""
    return errors.unavailable(
        "The results of this batch can't be read to their end and settled now, so it is not deleted: try again later.",
        reason="batch_unsettled",
        retry_after=60,
    )


async def page(caller: Caller, wanted: Wanted) -> bytes:
    """The JSON of a page of the caller's batches, newest first, as the provider described them last.

    Raises:
        GatewayError: 400, there is no such place in the list; 503, the database is away.
    """
    cursor = wanted.after or wanted.before
    values: dict[str, Any] = {"key": caller.key.id, "limit": wanted.limit + 1}
    if cursor:
        if not is_id(cursor):
            raise errors.invalid_request(f"{'after_id' if wanted.after else 'before_id'}: That is no batch's id.")
        found = await find(caller, cursor, or_none=True)
        if found is None:
            raise errors.invalid_request(
                f"{'after_id' if wanted.after else 'before_id'}: There is no such batch in this list."
            )
        values["cursor"] = found.id
    rows = await caller.runtime.records.ask(BEFORE if wanted.before else AFTER if cursor else LIST, values)
    has_more = len(rows) > wanted.limit
    chosen = rows[: wanted.limit]
    if wanted.before:
        chosen.reverse()
    base = whereabouts(caller.http)
    entries = [(name, with_our_url(described.encode(), base, name)) for name, described in chosen]
    return paging.page(entries, has_more=has_more)


async def relay_page(caller: Caller) -> HttpResponseBase:
    """The list of a caller with a provider's own key: the provider's.

    Raises:
        GatewayError: as `reach`.
    """

    def choose(known: KnownKey) -> KnownProviderKey:
        return known.routes[0][0]

    incoming = Incoming(caller, GET, NOTHING, await caller.http.read_body(SMALL), routing.only(choose))
    call = await relay.admit(incoming)
    with relay.under_way(call):
        answer = await attempts.once(call, incoming)
        response = await relay.render(caller.runtime, call, answer)
    base = whereabouts(caller.http)
    return relay.response(call, answer, RESULTS_PATH.sub(rb"\1" + base + rb"\2", response.body))


# Finding, and telling


async def find(caller: Caller, name: str, *, or_none: bool = False) -> KnownBatch | None:
    """The caller's batch of this name. None for callers with a provider's own key: theirs was made elsewhere, or not.

    Raises:
        GatewayError: 404, there is none; 503, the database is away.
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
    body = http.body if http.watcher is not None else await http.read_body(SMALL)
    method = "GET" if endpoint in (GET, RESULTS) else ""
    path = f"{PATH}/{name}" + TAIL.get(endpoint.name, "")
    return Incoming(caller, endpoint, NOTHING, body, routing.only(choose), path=path, method=method)


def home(key: KnownKey, batch: KnownBatch | None, name: str) -> KnownProviderKey:
    """The provider key that a batch can be reached by.

    Raises:
        GatewayError: 404, the virtual key maps to it no more.
    """
    where = None if batch is None else batch.provider_key
    account = ("", "") if batch is None else (batch.organization_id, batch.workspace_id)
    found = routing.home(key, where, account)
    if found is None:
        raise errors.not_found(
            f"Message batch not found: {name} is in an account that this key no longer maps to.", reason="lost_batch"
        )
    return found


def description(batch: UUID, body: bytes) -> dict[str, Any]:
    """What a provider says of a batch, to be kept."""
    return {
        "id": batch,
        "described": body.decode("utf-8", "replace").replace("\x00", ""),
        "ended_at": moment(mapping(decode(body)).get("ended_at")),
    }


def moment(value: object) -> datetime | None:
    """A provider's date and time."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def shown(call: Call, answer: Answer, body: bytes, name: str = "") -> RawResponse:
    """A provider's word about a batch, with the address of its results at our place."""
    if answer.status == 200:
        name = name or text(mapping(decode(body)).get("id"))
        body = with_our_url(body, whereabouts(call.http_request), name)
    return relay.response(call, answer, body)


def with_our_url(body: bytes, base: bytes, name: str) -> bytes:
    """The same, with `results_url` replaced where there is one: clients call it with the key that they have for us."""
    return RESULTS_URL.sub(lambda found: b'%b"%b%b/%b/results"' % (found[1], base, PATH.encode(), name.encode()), body)


def whereabouts(http: ApiRequest) -> bytes:
    """The URL that the caller knows this gateway by, before `/v1`."""
    scheme = b"https" if settings.CONFIGURATION.tls_in_front else (http.scheme or "http").encode()
    host = next((value for name, value in http.scope["headers"] if name == b"host"), b"")
    if not HOST.fullmatch(host):
        host = b"localhost"
    prefix: str = http.scope["path"].partition("/v1/")[0]
    return scheme + b"://" + bytes(host) + prefix.encode()
