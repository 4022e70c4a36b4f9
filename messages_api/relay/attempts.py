"""The attempts of a call: where each is made, its outcome, and whether another one may improve it.

Once the client has a byte, no further attempt is made. docs/routing.md has the rules in words.
"""

from __future__ import annotations

import logging
import time
from email.utils import parsedate_to_datetime

from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import JsonMeter, Reading
from messages_api.providers import Outgoing, cloud_errors
from messages_api.providers.base import JSON
from messages_api.relay.attempt import Failure, ReadAnswer
from messages_api.relay.call import Call
from messages_api.relay.incoming import Incoming
from messages_api.relay.runtime import Runtime
from messages_api.server import errors, headers
from messages_api.server.errors import GatewayError
from messages_api.upstream.client import MOST_BYTES, Answer, Headers, UpstreamError, read_all
from messages_api.upstream.time_limit import within
from usage.models import Status

logger = logging.getLogger(__name__)

# Statuses after which a retry may succeed, on the same provider key or another one.
PASSING_STATUSES = frozenset((408, 409, 429))
# Errors at the beginning of a stream that are the caller's mistake, whichever provider reports them.
MISTAKES = frozenset(("invalid_request_error", "not_found_error", "request_too_large"))
# Bytes of an error that are read and passed on; real ones are short.
LONGEST_ERROR = 1 << 20


async def make_once(call: Call, incoming: Incoming) -> Answer:
    """Make a call with a single attempt.

    Raises:
        GatewayError: the provider could not be reached, or didn't answer.
    """
    try:
        return await send(call, incoming)
    except UpstreamError as error:
        raise settle_failure(call, error) from None


async def make_attempts(call: Call, incoming: Incoming) -> Answer:
    """Make attempts until one has an answer that no further attempt could improve. Returns it, or else the first
    failure's answer.

    Raises:
        GatewayError: there is no answer.
    """
    first: Failure | None = None
    while True:
        outcome = await try_target(call, incoming)
        if not isinstance(outcome, Failure):
            return outcome
        first = first or outcome
        if not await go_on(call, outcome):
            return give_up(call, first, outcome)


async def try_target(call: Call, incoming: Incoming) -> Answer | Failure:
    """Make one attempt at the call's target, and record what its outcome says about the provider key."""
    attempt, trial = call.attempt, call.journey.insists
    try:
        with within(attempt.timeouts.total, call.loop):
            outcome = await send_and_read(call, incoming)
    except TimeoutError:
        outcome = unanswered(call, UpstreamError("no_answer_in_time", sent=attempt.sent))
    except UpstreamError as error:
        outcome = unanswered(call, error)
    except GatewayError as error:
        # This provider's protocol can't express the request; another one's may.
        await call.journey.leave_trial(attempt.target)
        outcome = Failure(attempt, error.reason, error=error, hopeless=True)
        attempt.ended = time.monotonic()
        return outcome
    if isinstance(outcome, Failure):
        attempt.ended = time.monotonic()
    if call.free:
        # Providers limit free calls separately: the outcome of a free call says nothing about calls that cost
        # something.
        await call.journey.leave_trial(attempt.target)
        if isinstance(outcome, Failure) and outcome.wait:
            outcome.hopeless = True
    elif isinstance(outcome, Failure):
        await note(incoming.runtime, call, outcome, trial=trial)
    else:
        target = attempt.target
        await incoming.runtime.cooldowns.succeeded(target.provider_key, target.model, trial=trial)
    return outcome


async def send_and_read(call: Call, incoming: Incoming) -> Answer | Failure:
    """Send the request, and return the outcome: a stream, or a complete answer. If another target could still answer, a
    stream is returned once its first block has begun.

    Raises:
        UpstreamError: there was no answer, or half of one.
        GatewayError: the provider doesn't support the request.
    """
    answer = await send(call, incoming)
    if answer.status != 200 or not headers.is_stream(answer.headers):
        kept = unmasked(call, await read_to_end(call, answer))
        return judged(incoming.runtime, call, kept) or kept
    if not call.journey.may_leave(call.target):
        return answer
    return await read_beginning(call, answer, incoming.runtime.configuration.ping_seconds)


async def send(call: Call, incoming: Incoming) -> Answer:
    """Send the request to the call's target.

    Raises:
        UpstreamError: there was no answer.
    """
    http, attempt, provider_key = incoming.http, call.attempt, call.provider_key
    given: Headers = http.scope["headers"]
    outgoing = Outgoing(
        incoming.method or http.method or "",
        incoming.path or incoming.endpoint.path,
        http.scope["query_string"],
        given if call.trace is None else call.trace.sent(attempt, given),
        await incoming.body_for(call.key, attempt.target),
        provider_key,
        attempt.note_sending,
        attempt.target.model,
        attempt.timeouts,
    )
    answer = await incoming.runtime.providers[provider_key.provider].send(outgoing)
    if call.request.stream and answer.status == 200:
        headers.label_stream(answer.headers)
    attempt.http_status = answer.status
    attempt.provider_request_id = headers.value_of(answer.headers, b"request-id")
    attempt.account = headers.account(answer.headers)
    incoming.runtime.accounts.note(provider_key, attempt.account)
    return answer


async def read_to_end(call: Call, answer: Answer) -> ReadAnswer:
    """Read an answer that isn't a stream to its end.

    Raises:
        UpstreamError: it was cut off, or is too long. (Of an error, the beginning is enough.)
    """
    refused = answer.status >= 400
    try:
        body = await read_all(lambda: read_piece(call, answer), LONGEST_ERROR if refused else MOST_BYTES, cut=refused)
    finally:
        answer.close()
    meter = JsonMeter(threaded=call.request.threaded)
    return ReadAnswer(answer.status, answer.headers, [body], meter=meter, understood=meter.read(body))


def unmasked(call: Call, answer: ReadAnswer) -> ReadAnswer:
    """The answer. An error that was sent as a success gets its real status."""
    if answer.status != 200 or answer.meter is None or answer.meter.reading.countable:
        return answer
    meant = cloud_errors.masked(answer.body)
    if meant is None:
        return answer
    status, body = meant
    call.attempt.http_status = status
    passed = [header for header in answer.headers if header[0] != b"content-type"]
    meter = JsonMeter()
    return ReadAnswer(status, [*passed, JSON], [body], meter=meter, understood=meter.read(body))


async def read_piece(call: Call, answer: Answer) -> bytes:
    """The next bytes of an answer, empty at its end.

    Raises:
        UpstreamError: the answer was cut off, or the provider is silent for too long.
    """
    try:
        with within(call.timeouts.between_bytes, call.loop):
            part = await answer.read()
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None
    if part:
        call.note_first_byte()
    return part


async def read_beginning(call: Call, answer: Answer, seconds: float) -> ReadAnswer | Failure:
    """Wait until a stream's first block begins, or until it reports an error. Returns the stream with what was read of
    it at the front: `EventStream` reads these bytes once more, with a meter of its own.

    Args:
        seconds: the most that a client waits for its first byte; after that it gets the stream as it is.
    """
    meter, parts, kind, size = StreamMeter(), list[bytes](), "broken_off", 0
    try:
        with within(seconds, call.loop):
            while not (meter.has_block or meter.stopped or meter.failed) and (part := await read_piece(call, answer)):
                parts.append(part)
                meter.feed(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise UpstreamError("too_long", sent=True)
        mistaken = meter.failed and meter.reading.error_type in MISTAKES
        ended = not (meter.has_block or meter.stopped or mistaken)
    except TimeoutError:
        ended = False
    except UpstreamError as error:
        ended, kind = True, error.kind
    except BaseException:
        answer.close()
        raise
    if not ended:
        return ReadAnswer(answer.status, answer.headers, parts, answer)
    answer.close()
    return Failure(
        call.attempt,
        meter.reading.error_type or kind,
        error=what_happened(UpstreamError(kind, sent=True)),
        answer=ReadAnswer(answer.status, answer.headers, parts),
        reading=meter.reading,
        unseen_tokens=call.unseen_tokens() if meter.started else None,
        hopeless=True,
    )


def judged(runtime: Runtime, call: Call, answer: ReadAnswer) -> Failure | None:
    """The failure, if another attempt may improve the answer; None if every provider key would give this answer."""
    status = answer.status
    if 200 <= status < 400 and (status != 200 or answer.understood):
        return None
    assert answer.meter is not None
    failure = Failure(
        call.attempt,
        answer.meter.reading.error_type,
        answer=answer,
        wait=retry_after(answer.headers),
    )
    if status == 200 and not answer.understood:
        failure.error_type, failure.error = "bad_answer", errors.broken_off()
        failure.unsure, failure.unseen_tokens = True, call.unseen_tokens()
        return failure
    if status >= 400 and is_about_us(runtime, call, status, answer.body):
        failure.error, failure.refused, failure.hopeless = errors.account_refused(), True, True
        return failure
    return failure if status in PASSING_STATUSES or status >= 500 else None


def unanswered(call: Call, error: UpstreamError) -> Failure:
    """The failure of an attempt without an answer, or with an incomplete one."""
    began = error.sent and (call.attempt.http_status or 200) < 400
    return Failure(
        call.attempt,
        error.kind,
        error=what_happened(error),
        hopeless=error.ended,
        # A provider that ends its answer without any content has written nothing.
        unseen_tokens=(0 if error.ended else call.unseen_tokens()) if began else None,
        unsure=began and not error.ended,
    )


async def note(runtime: Runtime, call: Call, failure: Failure, *, trial: bool) -> None:
    """Record what a failure says about the provider key, for the next calls."""
    cooldowns, target, http_status = runtime.cooldowns, failure.attempt.target, failure.attempt.http_status
    status = http_status or 0
    if failure.refused:
        if not await runtime.refused_keys.confirm(target, status, call.key.id, trial=trial):
            await call.journey.leave_trial(target)
    elif status == 429:
        await cooldowns.limited(target.provider_key, target.model, failure.wait, trial=trial)
    elif status not in PASSING_STATUSES:
        # A failing request says nothing about other models: one caller must not take the provider key from all others.
        model = target.model if http_status or failure.unseen_tokens is not None else ""
        await cooldowns.failed(target.provider_key, model, http_status, failure.wait, trial=trial)


async def go_on(call: Call, failure: Failure) -> bool:
    """Aim the call at its next target, if there is one and the arbiter holds the additional cost."""
    if call.read_on:  # no client waits for it
        return False
    if failure.unsure and not (failure.attempt.target.provider_key.retry_unanswered or call.free):
        return False
    if failure.hopeless:
        call.journey.out.add(failure.attempt.target)
    call.failure = failure
    target = await call.journey.next()
    if target is None:
        return False
    call.end_attempt(failure, at_ceiling=failure.unsure)
    if (target != call.target or failure.unseen_tokens is not None) and not await call.hold_more(target):
        await call.journey.leave_trial(target)
        return False
    call.aim(target)
    return True


def give_up(call: Call, first: Failure, last: Failure) -> Answer:
    """Settle the call without a further attempt. The outcome of the first attempt is the answer.

    Raises:
        GatewayError: the answer is the gateway's own error.
    """
    several = call.attempts_over > 0
    if several:
        if call.attempting:
            call.end_attempt(last, at_ceiling=False)
        call.shown = first.attempt
    call.failure = None
    if first.answer is not None and (first.error is None or (first.attempt.http_status == 200 and not several)):
        return first.answer
    error = first.error or errors.broken_off()
    error.headers = [*error.headers, headers.attempts_made(len(call.attempts))]
    if several and error.status_code >= 500:
        error.retry = False
    if first.refused:
        call.finish(Status.REFUSED_BY_PROVIDER, Reading(error_type=first.error_type), free=True)
    elif several or first.unseen_tokens is None:
        call.finish(Status.FAILED, Reading(), error_type=first.error_type, free=True)
    else:
        call.finish(Status.FAILED, Reading(error_type=first.error_type), unseen_tokens=first.unseen_tokens)
    raise error


def is_about_us(runtime: Runtime, call: Call, status: int, body: bytes) -> bool:
    """Whether an error is about the gateway's own key or account, so that the caller must not see it."""
    provider_key = call.provider_key
    return provider_key.id is not None and runtime.providers[provider_key.provider].is_about_us(status, body)


def settle_failure(call: Call, error: UpstreamError) -> GatewayError:
    """Settle a call that the provider did not answer to the end. Returns the error for the caller."""
    if error.sent and (call.attempt.http_status or 200) < 400:
        call.abandon(Status.FAILED, Reading(error_type=error.kind))
    else:
        call.finish(Status.FAILED, Reading(), error_type=error.kind, free=True)
    return what_happened(error)


def what_happened(error: UpstreamError) -> GatewayError:
    """The error for the caller if the provider did not answer to the end."""
    if error.kind == "no_answer_in_time":
        return errors.timed_out()
    if error.sent:
        return errors.broken_off()
    return errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable")


def retry_after(answer: Headers) -> float | None:
    """The seconds to wait by an error's `retry-after-ms` or `retry-after`; None without either."""
    try:
        if milliseconds := headers.value_of(answer, b"retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        when = headers.value_of(answer, b"retry-after")
        if not when:
            return None
        if when.replace(".", "", 1).isdecimal():
            return float(when)
        return max(0.0, parsedate_to_datetime(when).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
