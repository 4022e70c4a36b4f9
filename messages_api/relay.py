"""What happens to a call, in order: route, admit, attempt, and stream or render; its settlement is on every path."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.http.response import HttpResponseBase

from keys.directory import KnownKey, KnownProviderKey
from messages_api import arbiter, errors, estimates, headers, routing
from messages_api.authentication import Presented
from messages_api.call import Call
from messages_api.errors import GatewayError
from messages_api.handler import ApiRequest, RawResponse
from messages_api.metering import JsonMeter, Reading
from messages_api.providers import Outgoing
from messages_api.runtime import Runtime
from messages_api.schema import MessagesRequest
from messages_api.stream import EventStream
from messages_api.upstream import Answer, UpstreamError
from usage.admission import Admission, clean
from usage.models import Status
from usage.pricing import UnpricedModel
from usage.request_ids import request_id

logger = logging.getLogger(__name__)

# What a caller tells about itself, kept with the ledger row; never an identity.
CLIENT_LABELS = {
    b"x-request-id": "request_id",
    b"x-claude-code-session-id": "claude_code_session",
    b"x-claude-code-agent-id": "claude_code_agent",
    b"x-claude-code-parent-agent-id": "claude_code_parent_agent",
}

# A provider that refuses our key or account with these is our trouble, not the caller's.
ACCOUNT_STATUSES = frozenset((401, 402, 403))
SPENT_ACCOUNT = b"You have reached your specified API usage limits"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that is relayed to a provider; a free one costs nothing, and has a row all the same."""

    name: str
    path: str
    free: bool


MESSAGES = Endpoint("messages", "/v1/messages", free=False)
COUNT_TOKENS = Endpoint("count_tokens", "/v1/messages/count_tokens", free=True)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request that a caller made, read and checked."""

    http: ApiRequest
    endpoint: Endpoint
    presented: Presented
    key: KnownKey
    messages: MessagesRequest
    body: bytes


async def relay(runtime: Runtime, incoming: Incoming) -> HttpResponseBase:
    """Answer a call to a model.

    Raises:
        GatewayError: it was refused, or the provider could not answer it.
    """
    call = await admit(runtime, incoming)
    try:
        answer = await attempt(runtime, call, incoming)
        if answer.status == 200 and is_stream(answer):
            return EventStream(call, answer, headers.downstream(answer.headers, request_id(call.id)))
        return await render(call, answer)
    except asyncio.CancelledError:
        gone = incoming.http.client_gone
        call.abandon(Status.CLIENT_DISCONNECTED if gone else Status.INTERRUPTED, Reading())
        if gone:
            raise
        incoming.http.task.uncancel()
        raise errors.interrupted(cut=call.cut) from None
    except BaseException:
        call.abandon(Status.FAILED, Reading())  # changes nothing where it is settled
        raise


async def admit(runtime: Runtime, incoming: Incoming) -> Call:
    """Route the call and hold its ceiling; what was known of the key is read anew where it turns out to be stale.

    Raises:
        GatewayError: it was refused, or the arbiter didn't answer.
    """
    key, messages, presented = incoming.key, incoming.messages, incoming.presented
    estimate = estimates.estimate(incoming.body)
    labels = {
        CLIENT_LABELS[name]: clean(value.decode("latin-1"))
        for name, value in incoming.http.scope["headers"]
        if name in CLIENT_LABELS
    }
    for _ in range(arbiter.TRIES):
        try:
            provider_key = routing.route(key, messages.model, runtime.providers)
        except GatewayError:
            # Only what is known now may refuse.
            fresh = await runtime.identify_anew(presented, key)
            if fresh == key:
                raise
            key = fresh
            continue
        await runtime.refresh_prices()
        call = open_call(runtime, incoming, key, provider_key, estimate)
        verdict = await arbiter.ask(runtime, admission(call, incoming, labels))
        if verdict == "admitted":
            runtime.remember(call)
            return call
        presented, key = await arbiter.after(runtime, presented, key, verdict)
    raise arbiter.too_fast()


def open_call(
    runtime: Runtime, incoming: Incoming, key: KnownKey, provider_key: KnownProviderKey, estimate: estimates.Estimate
) -> Call:
    try:
        price = runtime.price(provider_key.provider, incoming.messages.model, datetime.now(UTC))
    except UnpricedModel:
        raise errors.forbidden(
            f"The model {incoming.messages.model} has no price here, and calls without one are refused.",
            reason="unpriced_model",
        ) from None
    return Call(
        runtime,
        incoming.http.id,
        key,
        provider_key,
        incoming.messages,
        estimate,
        price,
        incoming.http,
        free=incoming.endpoint.free,
    )


def admission(call: Call, incoming: Incoming, labels: dict[str, str]) -> Admission:
    """What the arbiter is asked for a call."""
    estimate, max_tokens = call.estimate, call.request.max_tokens
    return Admission(
        id=call.id,
        credential=call.key.credential,
        revision=call.key.revision,
        catalogue_revision=call.key.catalogue_revision,
        hold=True,
        endpoint=incoming.endpoint.name,
        requested_model=call.request.model,
        stream=call.request.stream,
        provider=call.provider_key.provider,
        provider_key=call.provider_key.id,
        ceiling=Decimal(0) if call.free else estimate.ceiling_cost(max_tokens, call.price),
        input_tokens=0 if call.free else estimate.likely,
        input_cost=Decimal(0) if call.free else estimate.likely_cost(call.price),
        max_tokens=max_tokens,
        output_price=call.price.output,
        price_version=call.price.version,
        client_labels=labels,
    )


async def attempt(runtime: Runtime, call: Call, incoming: Incoming) -> Answer:
    """Make the call.

    Raises:
        GatewayError: the provider could not be reached, or didn't answer.
    """
    http = incoming.http
    outgoing = Outgoing(
        "POST",
        incoming.endpoint.path,
        http.scope["query_string"],
        http.scope["headers"],
        incoming.body,
        call.provider_key,
        call.goes_out,
    )
    try:
        answer = await runtime.providers[call.provider_key.provider].send(outgoing)
    except UpstreamError as error:
        raise failed(call, error) from None
    call.http_status = answer.status
    call.provider_request_id = headers.value_of(answer.headers, b"request-id")
    return answer


async def render(call: Call, answer: Answer) -> HttpResponseBase:
    """Read an answer that is no stream to its end, and settle it before the client gets it.

    Raises:
        GatewayError: it broke off, or is about our credential.
    """
    meter = JsonMeter()
    body = await read_whole(call, answer)
    understood = meter.read(body)
    if not (200 <= answer.status < 300 or 400 <= answer.status < 600):
        call.finish(Status.FAILED, meter.reading, error_type="bad_status", free=True)
        raise errors.bad_gateway(f"The provider answered with HTTP {answer.status}.", reason="provider_status")
    if answer.status >= 400:
        call.finish(Status.REFUSED_BY_PROVIDER, meter.reading, free=True)
        if call.provider_key.id is not None and (answer.status in ACCOUNT_STATUSES or SPENT_ACCOUNT in body):
            logger.error("provider key %s was refused: HTTP %d", call.provider_key.name, answer.status)
            raise errors.unavailable(
                "The provider refuses the gateway's own key or account; its administrators have to see to it.",
                reason="provider_account",
                retry=False,
            )
    elif call.free or (understood and meter.reading.countable):
        call.finish(Status.COMPLETED, meter.reading)
    else:
        call.abandon(Status.COMPLETED, meter.reading)
    passed = headers.downstream(answer.headers, request_id(call.id))
    if answer.status != 204:  # RFC 9110, 8.6
        passed.append((b"content-length", b"%d" % len(body)))
    return RawResponse(answer.status, passed, body)


async def read_whole(call: Call, answer: Answer) -> bytes:
    """The body of an answer that is no stream.

    Raises:
        GatewayError: it broke off.
    """
    parts: list[bytes] = []
    patience = call.runtime.configuration.upstream_between_bytes_seconds
    try:
        while True:
            async with asyncio.timeout(patience):
                part = await answer.read()
            if not part:
                return b"".join(parts)
            parts.append(part)
            call.saw_first_byte()
    except UpstreamError as error:
        raise failed(call, error) from None
    except TimeoutError:
        raise failed(call, UpstreamError("no_answer_in_time", sent=True)) from None
    finally:
        answer.close()


def is_stream(answer: Answer) -> bool:
    return headers.value_of(answer.headers, b"content-type").lower().startswith("text/event-stream")


def failed(call: Call, error: UpstreamError) -> GatewayError:
    """Settle a call that the provider did not answer to the end, and say so to the caller."""
    if error.sent and (call.http_status or 200) < 400:
        call.abandon(Status.FAILED, Reading(error_type=error.kind))
    else:
        call.finish(Status.FAILED, Reading(), error_type=error.kind, free=True)
    if error.kind == "no_answer_in_time":
        return errors.timed_out()
    if error.sent:
        return errors.broken_off()
    return errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable")
