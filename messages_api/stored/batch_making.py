"""Creates message batches: each is read, its whole cost is held, and it is recorded before the provider gets it.

The ceiling of a batch's cost is held until its results are read: by its owner (batches.py), or by a task
(batch_upkeep.py) if the owner doesn't.
https://docs.claude.com/en/api/creating-message-batches
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from django.http.response import HttpResponseBase

from keys.directory import KnownKey, KnownProviderKey
from messages_api.answer.metering import Reading
from messages_api.json_text.lenient import mapping, text
from messages_api.json_text.outline import decode
from messages_api.process.allowances import Allowances
from messages_api.providers.paths import is_id
from messages_api.relay import attempts, bindings, holds, routing, story
from messages_api.relay.bindings import Bound
from messages_api.relay.call import Call, Endpoint
from messages_api.relay.caller import Caller
from messages_api.relay.holds import CallHold
from messages_api.relay.incoming import Incoming
from messages_api.relay.routing import Target
from messages_api.relay.runtime import Runtime
from messages_api.request import batch_body, max_tokens
from messages_api.request.schema import MessagesRequest
from messages_api.request.spooled_body import SpooledBody
from messages_api.server import errors
from messages_api.server.errors import GatewayError
from messages_api.stored.batch_rows import BEGIN, DOUBT, MADE, NEVER, described
from messages_api.stored.batch_urls import PATH, shown
from usage import pricing
from usage.arbitration import ModelShare
from usage.models import Status
from usage.pricing import ModelPrice, Payer

CREATE = Endpoint("batches.create", PATH, free=False)
# A batch runs for a day at most, and its results can be read for 29 days; the hold ends a day later.
HOLD_SECONDS = 30 * 86_400
# How many requests are priced at a time.
PORTION = 200


@dataclass(slots=True, eq=False)
class BatchCall(Call):
    """The call that creates a batch. If it is unknown whether the provider created the batch, its hold stays, and a
    task looks for the batch (batch_upkeep.py).
    """

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
    """Create a batch.

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
        http.note_understood()
        models = asked.models
        http.requested_model = ", ".join(models)[:200]

        bound = await runtime.bindings.of_names(key, asked.carried)

        def choose(known: KnownKey) -> KnownProviderKey:
            check_max_tokens(known, asked.asked)
            return route(known, models, bound, str(http.id))

        held = await reckon(runtime, asked, key, bindings.file_tokens(bound))
        model = models[0] if len(models) == 1 else ""
        request = MessagesRequest(model, 0, False, extras=asked.other_models)
        incoming = Incoming(caller, CREATE, request, body.outgoing(), routing.only(choose), held=held, opens=BatchCall)
        call = await story.admit(incoming)
        with story.under_way(call):
            await begin(runtime, call, asked)
            answer = await attempts.make_once(call, incoming)
            content = (await story.read_whole(call, answer)).body
            name = text(mapping(decode(content)).get("id"))
            if 400 <= answer.status < 500:
                story.settle_refusal(runtime, call, answer.status, content, Reading())
            elif answer.status == 200 and is_id(name):
                story.note_taken(runtime, call)
                await record_made(runtime, call, content, name)
            else:
                # It is unknown whether the batch was created. Until a task has found out, its cost stays held.
                call.abandon(Status.FAILED, Reading())
                if answer.status < 500 or answer.status >= 600:
                    raise errors.bad_gateway("The provider's answer describes no batch.", reason="provider_status")
    return shown(call, answer, content)


def turn_to_read(caller: Caller, body: SpooledBody) -> AbstractAsyncContextManager[object]:
    """Read a batch within this block: callers take turns for few places. A short batch doesn't wait."""
    if body.size <= batch_body.SHORT:
        return nullcontext()
    return caller.runtime.reading_batches.turn(caller.name, body.size)


def route(key: KnownKey, models: list[str], bound: list[Bound], name: str) -> KnownProviderKey:
    """The provider key for a batch: it serves all models of the batch, and its account has what the requests refer to.

    Args:
        name: chooses among several provider keys.

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
        raise errors.not_found("None of this virtual key's providers offers message batches.", reason="no_batches")
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


def check_max_tokens(key: KnownKey, asked: list[batch_body.BatchedRequest]) -> None:
    """Check that no request of a batch asks for more than the key may.

    Raises:
        GatewayError: 400, naming the first that does.
    """
    if key.max_tokens is not None:
        for at, each in enumerate(asked):
            if each.max_tokens > key.max_tokens:
                max_tokens.check(key, f"requests.{at}.params.{each.max_tokens_in}", each.max_tokens)


async def reckon(
    runtime: Runtime, asked: batch_body.BatchContents, owner: Payer, file_tokens: Mapping[str, int]
) -> CallHold:
    """What to hold for a batch: the sum of what its requests may cost, at batch prices.

    Args:
        file_tokens: the most tokens of the files that it names, by their ids, where their size is known.

    Raises:
        GatewayError: 403, a model has no price, and the deployment refuses such models.
    """
    await runtime.prices.refresh()
    models = asked.models
    await runtime.prices.look_up([("anthropic", model) for model in (*models, *asked.other_models.models)], owner)
    prices = {model: runtime.prices.now("anthropic", model, owner) for model in models}
    allowances = runtime.configuration.allowances
    shares = {model: ModelShare() for model in models}
    input_cost = costs = Decimal(0)
    input_tokens = input_ceiling = output_tokens = priced = 0
    for each in asked.asked:
        each.estimate = each.estimate.with_files(file_tokens)
        price = prices[each.model]
        others = holds.other_prices(runtime.prices, "anthropic", each.extras, owner)
        ceiling, cost = ceilings(each, [price, *others], allowances, runtime.prices.owners_differ)
        prompt = each.estimate.prompt(each.max_tokens, each.extras, allowances)
        most_read = prompt.tokens + prompt.besides
        share = shares[each.model]
        share.ceiling += ceiling
        costs += cost
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
    ceiling = sum((share.ceiling for share in shares.values()), Decimal(0))
    return CallHold(
        prices[models[0]],
        ceiling,
        input_tokens,
        input_cost * pricing.BATCH,
        output_tokens,
        expires_seconds=HOLD_SECONDS,
        input_ceiling=input_ceiling,
        shares=shares if len(shares) > 1 or any(share.also for share in shares.values()) else None,
        cost_factor=holds.part(costs, ceiling),
    )


def ceilings(
    asked: batch_body.BatchedRequest, prices: list[ModelPrice], allowances: Allowances, differ: bool
) -> tuple[Decimal, Decimal]:
    """The most that a request of a batch may cost its owner, and the most that the provider may charge.

    Args:
        differ: the price book has prices for owners.
    """

    def most(*prices: ModelPrice) -> Decimal:
        return asked.estimate.ceiling_cost(
            asked.max_tokens, *prices, allowances=allowances, extras=asked.extras, batch=True
        )

    ceiling = most(*prices)
    return ceiling, most(*(price.to_us() for price in prices)) if differ else ceiling


async def begin(runtime: Runtime, call: Call, asked: batch_body.BatchContents) -> None:
    """Record the batch before the provider gets it.

    Raises:
        GatewayError: 503, the database is unavailable.
    """
    values = {
        "id": call.id,
        "process": runtime.writer.process,
        "requests": len(asked.asked),
        "custom_ids": asked.custom_ids,
        "hour_writes": any(each.cache_writes != "5m" for each in asked.asked),
    }
    if not await runtime.records.ask(BEGIN, values):
        raise errors.unavailable("The batch could not be recorded: try again.", reason="no_hold", retry_after=1)


async def record_made(runtime: Runtime, call: Call, content: bytes, name: str) -> None:
    """The provider has created the batch. If the database is unavailable now, this is written when it is back."""
    values = {
        "id": call.id,
        "provider_batch_id": name,
        "described": described(content),
        "organization_id": call.account[0],
        "workspace_id": call.account[1],
        "settlement": msgspec.json.encode(call.settlement(Status.COMPLETED, Reading(), free=True)).decode(),
    }
    call.leave()
    try:
        await runtime.records.ask(MADE, values)
    except GatewayError:
        runtime.errands.write(MADE, values)
