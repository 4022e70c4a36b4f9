"""The steps of a call, in order: plan, admit, attempt, stream or render. Every path settles the call.

Bindings of an answer to its account (bindings.py) are stored before the client has the bytes that carry them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from django.http.response import HttpResponseBase

from keys.client_address import client_address
from keys.directory import KnownKey
from messages_api.answer.metering import Reading
from messages_api.callers import quota
from messages_api.relay import attempts, holds, routing, verdicts
from messages_api.relay.attempt import Attempt, ReadAnswer
from messages_api.relay.call import Call
from messages_api.relay.caller import Caller
from messages_api.relay.incoming import Incoming
from messages_api.relay.journey import Deadlines, Journey, deadlines
from messages_api.relay.routing import Plan, Target
from messages_api.relay.runtime import Runtime
from messages_api.relay.stream import EventStream
from messages_api.request import estimates, max_tokens
from messages_api.request.schema import MessagesRequest
from messages_api.server import errors, headers
from messages_api.server.database_away import DatabaseAway, asking
from messages_api.server.errors import GatewayError
from messages_api.server.handler import ClientGone, RawResponse
from messages_api.upstream.client import Answer, UpstreamError
from usage.models import Status
from usage.pricing import FREE
from usage.request_ids import request_id

logger = logging.getLogger(__name__)

# How often a call is planned again because a provider key has begun to cool down. Each time it waits, or gets another
# target.
MOST_COOLING = 16


async def relay(incoming: Incoming) -> HttpResponseBase:
    """Answer a call to a model.

    Raises:
        GatewayError: the call was refused, or the provider could not answer it.
    """
    call = await admit(incoming)
    with under_way(call):
        if call.works_unseen:
            return await incoming.runtime.reading_on.answer(call, make(call, incoming))
        return await make(call, incoming)


async def make(call: Call, incoming: Incoming) -> HttpResponseBase:
    """Make an admitted call.

    Raises:
        GatewayError: there is no answer.
    """
    runtime = incoming.runtime
    answer = await attempts.make_attempts(call, incoming)
    call.standing += headers.answered_by(call.provider_key.provider, call.model, len(call.attempts))
    if answer.status == 200 and headers.is_stream(answer.headers):
        note_taken(runtime, call)
        passed = headers.downstream(answer.headers, request_id(call.id)) + call.standing
        return EventStream(runtime, call, answer, passed)
    return await render(runtime, call, answer)


@contextlib.contextmanager
def under_way(call: Call) -> Iterator[None]:
    """Make an admitted call within this block. If an exception ends it early, the call is settled.

    The block ends when the view has its response. It doesn't cover the body of a stream, which the handler pumps
    afterwards: `EventStream` and `Download` settle their calls themselves.

    Raises:
        GatewayError: in place of a cancellation by the gateway itself.
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
        call.abandon(Status.FAILED, Reading(error_type=error.reason))  # changes nothing if it is settled
        raise
    except BaseException:
        call.abandon(Status.FAILED, Reading())
        raise


async def admit(incoming: Incoming) -> Call:
    """Route the call and hold its ceiling. If the cached key turns out to be stale, it is reloaded.

    Raises:
        GatewayError: it was refused, or the arbiter didn't answer.
    """
    caller = incoming.caller
    until = deadlines(incoming.runtime.configuration.retry_seconds, incoming.http.scope["headers"])
    for _ in range(verdicts.TRIES):
        outcome = await plan_and_ask(incoming, caller, until)
        if isinstance(outcome, Call):
            return outcome
        caller = outcome
        if time.monotonic() >= until.client_leaves:
            break
    raise verdicts.too_fast()


async def plan_and_ask(incoming: Incoming, caller: Caller, until: Deadlines) -> Call | Caller:
    """Plan the call's targets, and ask the arbiter. Returns the admitted call, or the caller with its reloaded key, for
    another try.

    Raises:
        GatewayError: as `admit`.
    """
    runtime, key = incoming.runtime, caller.key
    for _ in range(MOST_COOLING):
        try:
            messages, plan = await check_and_plan(incoming, key)
        except GatewayError:
            # Only current data may refuse.
            fresh = await caller.renew()
            if fresh.key == key:
                raise
            return fresh
        if runtime.prices.is_stale:
            await runtime.prices.refresh()
        journey = journey_of(incoming, key, plan, until)
        if len(models := holds.models_of(journey, messages.extras)) > 1:
            await runtime.prices.look_up(models, key)
        target = await journey.next()
        if target is None:
            break
        call = open_call(incoming, messages, key, journey, target, incoming.estimate(plan))
        verdict = await hold(incoming, caller, call)
        if verdict == "admitted":
            return call
        await journey.leave_trial(target)
        if verdict != "cooling":
            return await caller.after(verdict)
        # Another call has just found that the provider key fails.
        with asking:
            await runtime.cooldowns.read()
        if time.monotonic() > until.client_leaves:
            break
    raise journey.closed()


async def hold(incoming: Incoming, caller: Caller, call: Call) -> str:
    """Ask the arbiter to admit a call and hold its ceiling. Returns the verdict. While the arbiter is unavailable, some
    calls pass without it.

    Raises:
        GatewayError: it was refused, or the arbiter didn't answer.
    """
    runtime, target = incoming.runtime, call.target
    wanted = holds.admission(call, incoming.held or holds.reckon(call), incoming.labels())
    try:
        verdict = await verdicts.ask(runtime.writer, wanted)
    except DatabaseAway:
        if caller.may_pass(incoming.endpoint.name):
            runtime.passing.let(call, wanted)
            return "admitted"
        await call.journey.leave_trial(target)
        raise
    except GatewayError:
        await call.journey.leave_trial(target)
        raise
    if verdict == "admitted":
        if call.trace is not None:
            call.trace.note_admitted()
        call.standing = quota.standing(verdict.details)
        call.tight = quota.nearly_empty(verdict.details)
        runtime.passing.trust(call.key)
        runtime.open_calls.remember(call)
        runtime.uses.note(call.key.credential, client_address(incoming.http.scope))
    return verdict


async def check_and_plan(incoming: Incoming, key: KnownKey) -> tuple[MessagesRequest, Plan]:
    """The request with this key's rules applied, and its targets.

    Raises:
        GatewayError: the key may not make this request.
    """
    messages = max_tokens.bounded(key, incoming.messages)
    plan = incoming.plan(key)
    if messages.extras is not estimates.NO_EXTRAS:
        by_default = await incoming.runtime.models.fallbacks(key) if messages.extras.default_fallbacks else ()
        check_models(key, messages, plan, by_default)
    return messages, plan


def check_models(key: KnownKey, messages: MessagesRequest, plan: Plan, by_default: Sequence[str]) -> None:
    """Check that the key may use all models that a request may mean besides its own, at every target.

    Args:
        by_default: the models that the provider may choose by default.

    Raises:
        GatewayError: 403, the key may not use one of them.
    """
    somewhere = {target.provider_key.provider: target.provider_key for targets in plan for target in targets}
    for model in dict.fromkeys((*messages.extras.models, *by_default)):
        for provider_key in somewhere.values():
            if not key.allows(*routing.names(model, Target(provider_key, model))):
                message = f"This virtual key may not use the model {model}"
                if model not in messages.extras.models:
                    message += ", which the default fallbacks may mean"
                raise errors.forbidden(f"{message}.", reason="model_not_allowed")


def journey_of(incoming: Incoming, key: KnownKey, plan: Plan, until: Deadlines) -> Journey:
    """The journey of a call through the targets of its plan."""
    runtime = incoming.runtime
    return Journey(
        runtime.cooldowns,
        plan,
        incoming.http.scope["headers"],
        until.waits,
        most=runtime.configuration.retry_attempts,
        tries=incoming.relayed and not key.passthrough,
    )


def open_call(
    incoming: Incoming,
    messages: MessagesRequest,
    key: KnownKey,
    journey: Journey,
    target: Target,
    estimate: estimates.Estimate,
) -> Call:
    """Create the call, which is not yet admitted.

    Raises:
        GatewayError: as `Prices.now`.
    """
    if incoming.held is not None:
        price = incoming.held.price
    elif incoming.endpoint.free and not incoming.messages.model:
        price = FREE
    else:
        sold_as = target.sold or incoming.messages.model
        price = incoming.runtime.prices.now(target.provider_key.provider, sold_as, key)
    traces = incoming.runtime.traces
    return incoming.opens(
        incoming.runtime,
        incoming.id or incoming.http.id,
        key,
        [Attempt(target, price, incoming.runtime.patience.timeouts(target.provider_key))],
        journey,
        messages,
        estimate,
        incoming.http,
        endpoint=incoming.endpoint,
        trace=None if traces is None else traces.begin(incoming.http.scope["headers"]),
    )


async def render(runtime: Runtime, call: Call, answer: Answer) -> RawResponse:
    """Read an answer that isn't a stream to its end, and settle the call before the client gets the answer.

    Raises:
        GatewayError: the answer was cut off, or is about the gateway's credential.
    """
    kept = await read_whole(call, answer)
    body, meter = kept.body, kept.meter
    assert meter is not None
    if not 200 <= answer.status < 300:
        settle_refusal(runtime, call, answer.status, body, meter.reading)
    elif answer.status == 200 and not kept.understood:
        meter.reading.error_type = "bad_answer"
        call.abandon(Status.FAILED, meter.reading)
    elif call.free or (kept.understood and meter.reading.countable):
        note_taken(runtime, call)
        call.finish(Status.COMPLETED, meter.reading)
    else:
        call.abandon(Status.COMPLETED, meter.reading)
    if meter.states and answer.status == 200:
        await runtime.bindings.keep(call, meter.states)
    await call.commit()
    return response(call, answer, body)


def settle_refusal(runtime: Runtime, call: Call, status: int, body: bytes, reading: Reading) -> None:
    """Settle a call that the provider refused or failed, at no cost.

    Raises:
        GatewayError: the provider's words are not for the caller.
    """
    passed_keys, secret = runtime.passed_keys, call.provider_key.secret
    if call.key.passthrough and (status == 401 or not passed_keys.is_sure(secret)):
        # Any client can make up a provider's key, so a refused one leaves no row.
        call.withdraw()
        if status < 500 and status != 429:
            passed_keys.note_refused(secret)
        if 400 <= status < 600:
            return
    if not 400 <= status < 600:
        call.finish(Status.FAILED, reading, error_type="bad_status", free=True)
        raise errors.bad_gateway(f"The provider answered with HTTP {status}.", reason="provider_status")
    call.finish(Status.REFUSED_BY_PROVIDER, reading, free=True)
    if attempts.is_about_us(runtime, call, status, body):
        logger.error("provider key %s was refused: HTTP %d", call.provider_key.name, status)
        raise errors.account_refused()


def note_taken(runtime: Runtime, call: Call) -> None:
    """Record that the provider has answered a call: if the call was made with a caller's own key, the key is valid."""
    if call.key.passthrough:
        runtime.passed_keys.note_taken(call.provider_key.secret)


def response(call: Call, answer: Answer, body: bytes) -> RawResponse:
    """Build the answer for the client."""
    passed = headers.downstream(answer.headers, request_id(call.id)) + call.standing
    if answer.status >= 400 and call.attempts_over > 1:
        # The gateway has retried it already.
        passed = [header for header in passed if header[0] != headers.SHOULD_RETRY] + [(headers.SHOULD_RETRY, b"false")]
    if answer.status != 204:  # RFC 9110, 8.6
        passed.append((b"content-length", b"%d" % len(body)))
    return RawResponse(answer.status, passed, body)


async def read_whole(call: Call, answer: Answer) -> ReadAnswer:
    """Read an answer that isn't a stream to its end.

    Raises:
        GatewayError: the answer was cut off.
    """
    if isinstance(answer, ReadAnswer) and answer.meter is not None:
        return answer
    try:
        return await attempts.read_to_end(call, answer)
    except UpstreamError as error:
        raise attempts.settle_failure(call, error) from None
