"""What happens to a call, in order: plan, admit, attempt, and stream or render; its settlement is on every path.

What an answer binds to its account (bindings.py) is kept before the client has the bytes that carry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from django.http.response import HttpResponseBase

from keys import provider_kinds
from keys.directory import KnownKey
from messages_api import (
    arbiter,
    attempts,
    errors,
    estimates,
    headers,
    long_bodies,
    max_tokens,
    minted,
    passing,
    quota,
    routing,
    splice,
)
from messages_api.attempts import Kept
from messages_api.authentication import Presented
from messages_api.call import Call, Endpoint
from messages_api.errors import GatewayError
from messages_api.handler import ApiRequest, ClientGone, RawResponse
from messages_api.journey import Journey, deadlines
from messages_api.metering import Reading
from messages_api.routing import Plan, Planner, Target
from messages_api.runtime import Runtime
from messages_api.schema import MessagesRequest
from messages_api.splice import Edit
from messages_api.stream import EventStream
from messages_api.upstream import Answer, Body, UpstreamError
from usage.arbitration import Admission, Share, clean
from usage.models import Status
from usage.pricing import FREE, ModelPrice, UnpricedModel, current_models
from usage.request_ids import request_id

logger = logging.getLogger(__name__)

# What a caller tells about itself, kept with the ledger row; never an identity.
CLIENT_LABELS = {
    b"x-request-id": "request_id",
    b"x-claude-code-session-id": "claude_code_session",
    b"x-claude-code-agent-id": "claude_code_agent",
    b"x-claude-code-parent-agent-id": "claude_code_parent_agent",
}


# How often a call plans again because a provider key turns out to cool down: each time it waits or aims elsewhere.
MOST_COOLING = 16


MESSAGES = Endpoint("messages", "/v1/messages", free=False)
COUNT_TOKENS = Endpoint("count_tokens", "/v1/messages/count_tokens", free=True)


@dataclass(frozen=True, slots=True)
class Held:
    """What is held for a call. USD at most; of its input, the tokens and USD that are likely; output tokens at most.

    `input_ceiling`: tokens besides `max_tokens` at most, for budgets of tokens. `price` is the model's that it is
    reckoned by. `expires_seconds`: it has no process, but so long. `shares`: by model, where there are several.
    """

    price: ModelPrice
    ceiling: Decimal
    input_tokens: int
    input_cost: Decimal
    max_tokens: int
    expires_seconds: int | None = None
    input_ceiling: int = 0
    shares: dict[str, Share] | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request that a caller made, read and checked, and how to plan where it goes.

    Attributes:
        path: the provider's, where it isn't the endpoint's.
        method: likewise, where it isn't the caller's.
        held: what to hold, where it isn't reckoned from the body.
        opens: what it becomes once it is admitted.
        id: the call's, where the request makes more than one.
    """

    http: ApiRequest
    endpoint: Endpoint
    presented: Presented
    key: KnownKey
    messages: MessagesRequest
    body: Body
    plan: Planner
    path: str = ""
    method: str = ""
    held: Held | None = None
    opens: type[Call] = Call
    id: UUID | None = None

    @property
    def relayed(self) -> bool:
        """Whether it may be made again elsewhere."""
        return self.endpoint in (MESSAGES, COUNT_TOKENS)

    async def body_for(self, key: KnownKey, target: Target) -> Body:
        """The body as it goes out with this key: with the `max_tokens` that the caller left out, the model's name as
        the target's provider knows it, and only the thinking that this provider can take."""
        body = self.body
        if not isinstance(body, bytes):
            return body
        edits = list[Edit]()
        if self.messages.contents.minted and target.provider_key.kind.signs_thinking:
            edits += await long_bodies.run(minted.cuts, body)
        if target.model not in ("", self.messages.model):
            edits += await long_bodies.run(splice.model, body, target.model)
        if self.messages.lacks_max_tokens and (default := max_tokens.stand_in(key, self.messages)) is not None:
            edits += splice.max_tokens(body, default)
        return splice.apply(body, sorted(edits))


async def relay(runtime: Runtime, incoming: Incoming) -> HttpResponseBase:
    """Answer a call to a model.

    Raises:
        GatewayError: it was refused, or the provider could not answer it.
    """
    call = await admit(runtime, incoming)
    with under_way(call):
        if call.works_unseen:
            return await runtime.reading_on.answer(call, make(call, incoming))
        return await make(call, incoming)


async def make(call: Call, incoming: Incoming) -> HttpResponseBase:
    """Make an admitted call.

    Raises:
        GatewayError: there is no answer.
    """
    answer = await attempts.answered(call, incoming)
    call.standing += headers.answered_by(call.provider_key.provider, call.model, len(call.attempts) + call.attempting)
    if answer.status == 200 and headers.is_stream(answer.headers):
        took(call)
        return EventStream(call, answer, headers.downstream(answer.headers, request_id(call.id)) + call.standing)
    return await render(call, answer)


@contextlib.contextmanager
def under_way(call: Call) -> Iterator[None]:
    """Within, an admitted call is made: whatever ends it before its time, it is settled.

    Raises:
        GatewayError: in place of a cancellation that was ours.
    """
    try:
        yield
    except ClientGone:
        call.abandon(Status.CLIENT_DISCONNECTED, Reading())
        raise
    except asyncio.CancelledError:
        if call.read_on:
            raise
        gone = call.http_request.client_gone
        call.abandon(Status.CLIENT_DISCONNECTED if gone else Status.INTERRUPTED, Reading())
        if gone:
            raise
        call.http_request.task.uncancel()
        raise errors.interrupted(cut=call.cut) from None
    except GatewayError as error:
        call.abandon(Status.FAILED, Reading(error_type=error.reason))  # changes nothing where it is settled
        raise
    except BaseException:
        call.abandon(Status.FAILED, Reading())
        raise


async def admit(runtime: Runtime, incoming: Incoming) -> Call:
    """Route the call and hold its ceiling; what was known of the key is read anew where it turns out to be stale.

    Raises:
        GatewayError: it was refused, or the arbiter didn't answer.
    """
    key, presented = incoming.key, incoming.presented
    estimate = estimates.NOTHING
    if isinstance(incoming.body, bytes):
        asked = incoming.messages
        estimate = estimates.estimate(asked.contents, asked.model, asked.added, asked.extras)
    labels = {
        CLIENT_LABELS[name]: clean(value.decode("latin-1"))
        for name, value in incoming.http.scope["headers"]
        if name in CLIENT_LABELS
    }
    given = incoming.http.scope["headers"]
    deadline, client_leaves = deadlines(runtime, given)
    stale = cooling = 0
    while stale < arbiter.TRIES and (not stale or time.monotonic() < client_leaves):
        try:
            messages = max_tokens.bounded(key, incoming.messages)
            plan = incoming.plan(key)
            if messages.extras is not estimates.NO_EXTRAS:
                check_models(key, messages, plan, await chosen_by_default(runtime, key, messages))
        except GatewayError:
            # Only what is known now may refuse.
            fresh = await runtime.identify_anew(presented, key)
            if fresh == key:
                raise
            key, stale = fresh, stale + 1
            continue
        await runtime.refresh_prices()
        journey = Journey(runtime, plan, given, deadline, tries=incoming.relayed and not key.passthrough)
        target = await journey.next()
        if target is None:
            raise journey.closed()
        call = open_call(runtime, incoming, messages, key, journey, target, estimate)
        wanted = admission(call, incoming, labels)
        try:
            verdict = await arbiter.ask(runtime, wanted)
        except GatewayError as error:
            if error.reason == "database_away" and passing.may(runtime, incoming.endpoint.name, presented, key):
                passing.let(runtime, call, wanted)
                return call
            await journey.leave_trial(target)
            raise
        if verdict == "admitted":
            call.standing = quota.standing(verdict.details)
            call.tight = quota.nearly_empty(verdict.details)
            runtime.remember(call)
            return call
        await journey.leave_trial(target)
        if verdict == "cooling":
            # Another call has just found that out.
            cooling += 1
            await runtime.refresh_cooldowns()
            if cooling == MOST_COOLING or time.monotonic() > client_leaves:
                raise journey.closed()
        else:
            presented, key = await arbiter.after(runtime, presented, key, verdict)
            stale += 1
    raise arbiter.too_fast()


async def chosen_by_default(runtime: Runtime, key: KnownKey, messages: MessagesRequest) -> Sequence[str]:
    """The models that a request leaves to the provider's choice."""
    return await runtime.default_fallbacks(key) if messages.extras.default_fallbacks else ()


def check_models(key: KnownKey, messages: MessagesRequest, plan: Plan, by_default: Sequence[str]) -> None:
    """Check that the key may use whatever models a request may mean besides its own, wherever it may go.

    Args:
        by_default: those that it leaves to the provider's choice.

    Raises:
        GatewayError: 403, it may not.
    """
    somewhere = {target.provider_key.provider: target.provider_key for targets in plan for target in targets}
    for model in dict.fromkeys((*messages.extras.models, *by_default)):
        for provider_key in somewhere.values():
            if not key.allows(*routing.names(model, Target(provider_key, model))):
                message = f"This virtual key may not use the model {model}"
                if model not in messages.extras.models:
                    message += ", which the default fallbacks may mean"
                raise errors.forbidden(f"{message}.", reason="model_not_allowed")


def open_call(
    runtime: Runtime,
    incoming: Incoming,
    messages: MessagesRequest,
    key: KnownKey,
    journey: Journey,
    target: Target,
    estimate: estimates.Estimate,
) -> Call:
    if incoming.held is not None:
        price = incoming.held.price
    elif incoming.endpoint.free and not incoming.messages.model:
        price = FREE
    else:
        price = price_of(runtime, target.provider_key.provider, target.sold_as() or incoming.messages.model)
    return incoming.opens(
        runtime,
        incoming.id or incoming.http.id,
        key,
        target,
        journey,
        messages,
        estimate,
        price,
        incoming.http,
        endpoint=incoming.endpoint,
    )


def price_of(runtime: Runtime, provider: str, model: str) -> ModelPrice:
    """What the model costs now.

    Raises:
        GatewayError: 403, it has no price, and the deployment refuses such models.
    """
    try:
        return runtime.price(provider, model, datetime.now(UTC))
    except UnpricedModel:
        raise errors.forbidden(
            f"The model {model} has no price here, and calls without one are refused.", reason="unpriced_model"
        ) from None


def admission(call: Call, incoming: Incoming, labels: dict[str, str]) -> Admission:
    """What the arbiter is asked for a call."""
    held = incoming.held or reckon(call)
    call.ceiling, call.most_tokens = held.ceiling, held.input_ceiling + held.max_tokens
    return Admission(
        id=call.id,
        credential=call.key.credential,
        revision=call.key.revision,
        catalogue_revision=call.key.catalogue_revision,
        hold=not call.free,
        endpoint=incoming.endpoint.name,
        requested_model=call.request.model,
        stream=call.request.stream,
        provider=call.provider_key.provider,
        provider_key=call.provider_key.id,
        insists=call.journey.insists,
        ceiling=held.ceiling,
        input_tokens=held.input_tokens,
        input_cost=held.input_cost,
        input_ceiling=held.input_ceiling,
        max_tokens=held.max_tokens,
        output_price=call.price.output,
        price_version=call.price.version,
        client_labels=labels,
        expires_seconds=held.expires_seconds,
        shares=held.shares or by_its_names(call, held),
    )


def by_its_names(call: Call, held: Held) -> dict[str, Share] | None:
    """The whole of what is held, under the name that the model has where it is called, with the one that was asked for
    and the models that the request may mean besides: budgets and limits by model go by all of them. None where that is
    the one that was asked for."""
    others = dict.fromkeys((call.target.asked or call.request.model, *meant_besides(call.request.extras)))
    others.pop(call.model, None)
    if call.model == call.request.model and not others:
        return None
    return {call.model: Share(held.ceiling, held.input_ceiling + held.max_tokens, list(others))}


def meant_besides(extras: estimates.Extras) -> tuple[str, ...]:
    """The models that a request may mean besides its own and have a price."""
    return (*extras.models, *(current_models() if extras.default_fallbacks else ()))


def reckon(call: Call) -> Held:
    """What to hold for a call by what was asked for.

    Raises:
        GatewayError: as `price_of`.
    """
    estimate, most, price = call.estimate, call.request.max_tokens, call.price
    if call.free:
        return Held(price, Decimal(0), 0, Decimal(0), 0)
    extras = call.request.extras
    others = [
        *other_prices(call.runtime, call.provider_key.provider, extras, call.provider_key.region),
        *(price_of(call.runtime, *model) for model in call.journey.models()),
    ]
    allowances = call.runtime.configuration.allowances
    ceiling = estimate.ceiling_cost(most, price, *others, allowances=allowances, extras=extras)
    prompt = estimate.prompt(most, extras, allowances)
    return Held(
        price,
        ceiling,
        estimate.likely,
        estimate.likely_cost(price),
        most,
        input_ceiling=prompt.tokens + prompt.besides,
    )


def other_prices(runtime: Runtime, provider: str, extras: estimates.Extras, region: str = "") -> list[ModelPrice]:
    """What the models cost that a request may mean besides its own.

    Raises:
        GatewayError: as `price_of`.
    """
    if extras is estimates.NO_EXTRAS:
        return []
    sold_as = provider_kinds.find(provider).sold_as
    return [price_of(runtime, provider, sold_as(region, "", model)) for model in meant_besides(extras)]


async def render(call: Call, answer: Answer) -> RawResponse:
    """Read an answer that is no stream to its end, and settle it before the client gets it.

    Raises:
        GatewayError: it broke off, or is about our credential.
    """
    kept = await read_whole(call, answer)
    body, meter = kept.body, kept.meter
    assert meter is not None
    if not 200 <= answer.status < 300:
        refused(call, answer.status, body, meter.reading)
    elif answer.status == 200 and not kept.understood:
        meter.reading.error_type = "bad_answer"
        call.abandon(Status.FAILED, meter.reading)
    elif call.free or (kept.understood and meter.reading.countable):
        took(call)
        call.finish(Status.COMPLETED, meter.reading)
    else:
        call.abandon(Status.COMPLETED, meter.reading)
    if meter.states and answer.status == 200:
        await call.runtime.bindings.keep(call, meter.states)
    await call.commit()
    return whole(call, answer, body)


def refused(call: Call, status: int, body: bytes, reading: Reading) -> None:
    """Settle a call whose answer is no answer; it cost nothing.

    Raises:
        GatewayError: what the provider said is not for the caller.
    """
    if call.key.passthrough and (status == 401 or not call.runtime.passed_keys.is_sure(call.provider_key.secret)):
        # Anybody can make one up: it leaves no row.
        call.withdraw()
        if status < 500 and status != 429:
            call.runtime.passed_keys.was_refused(call.provider_key.secret)
        if 400 <= status < 600:
            return
    if not 400 <= status < 600:
        call.finish(Status.FAILED, reading, error_type="bad_status", free=True)
        raise errors.bad_gateway(f"The provider answered with HTTP {status}.", reason="provider_status")
    call.finish(Status.REFUSED_BY_PROVIDER, reading, free=True)
    if attempts.is_about_us(call, status, body):
        logger.error("provider key %s was refused: HTTP %d", call.provider_key.name, status)
        raise errors.account_refused()


def took(call: Call) -> None:
    """The provider has answered a call; if that was made with a caller's own key, it takes this key."""
    if call.key.passthrough:
        call.runtime.passed_keys.was_taken(call.provider_key.secret)


def whole(call: Call, answer: Answer, body: bytes) -> RawResponse:
    """The answer for the client."""
    passed = headers.downstream(answer.headers, request_id(call.id)) + call.standing
    if answer.status >= 400 and len(call.attempts) > 1:
        # It was tried often enough.
        passed = [header for header in passed if header[0] != headers.SHOULD_RETRY] + [(headers.SHOULD_RETRY, b"false")]
    if answer.status != 204:  # RFC 9110, 8.6
        passed.append((b"content-length", b"%d" % len(body)))
    return RawResponse(answer.status, passed, body)


async def read_whole(call: Call, answer: Answer) -> Kept:
    """An answer that is no stream, in whole.

    Raises:
        GatewayError: it broke off.
    """
    if isinstance(answer, Kept) and answer.meter is not None:
        return answer
    try:
        return await attempts.whole(call, answer)
    except UpstreamError as error:
        raise attempts.failed(call, error) from None
