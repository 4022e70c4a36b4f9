"""The attempts of a call: where it is made, what became of it there, and whether another one may mend that.

Nothing is tried again once the client has a byte. docs/routing.md tells the rules in words.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from keys.cooldowns import KnownCooldown
from keys.models import CooldownReason
from messages_api import errors, headers
from messages_api.call import Call
from messages_api.errors import GatewayError
from messages_api.metering import JsonMeter, Reading, StreamMeter
from messages_api.providers import Outgoing
from messages_api.routing import Plan, Target
from messages_api.runtime import Runtime
from messages_api.upstream import Answer, Headers, UpstreamError
from usage.models import Status

if TYPE_CHECKING:
    from messages_api.relay import Incoming

logger = logging.getLogger(__name__)

# A provider that refuses our key or account with these is our trouble, not the caller's.
ACCOUNT_STATUSES = frozenset((401, 402, 403))
SPENT_ACCOUNT = b"You have reached your specified API usage limits"
# What may pass by itself, or on another provider key; nothing else does.
PASSING_STATUSES = frozenset((408, 409, 429))
# Full jitter: a random part of so many seconds, doubled with each round.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
# Clocks differ a little.
MARGIN = 0.01
# An error is read to this length to be passed on; providers' are short.
LONGEST_ERROR = 1 << 20
# How long the beginning of a stream is held back for its first block.
BLOCK_SECONDS = 5.0


@dataclass(slots=True)
class Kept:
    """An answer, or the beginning of one, that was read already."""

    status: int
    headers: Headers
    parts: list[bytes]
    rest: Answer | None = None

    async def read(self) -> bytes:
        if self.parts:
            return self.parts.pop(0)
        return await self.rest.read() if self.rest is not None else b""

    def close(self) -> None:
        if self.rest is not None:
            self.rest.close()


@dataclass(slots=True)
class Failure:
    """An attempt that another one may mend.

    Attributes:
        error: what the caller hears if none does, unless it is the provider's own `answer`.
        unseen_tokens: it may have cost something: the output tokens that it is reckoned to have come to. None: nothing.
        hopeless: the same place would fail again.
        unsure: the provider may be at it still.
        wait: seconds, as the provider says.
    """

    target: Target
    error_type: str
    error: GatewayError | None = None
    answer: Kept | None = None
    reading: Reading = field(default_factory=Reading)
    http_status: int | None = None
    provider_request_id: str = ""
    refused: bool = False
    hopeless: bool = False
    unseen_tokens: int | None = None
    unsure: bool = False
    wait: float | None = None


class Journey:
    """Which target is next, and when. A call that can go to one place only goes there, once, whatever became of others:
    to try again is its client's to decide, who hears the provider's own words.

    Attributes:
        insists: the provider key may be cooling down for all others: the call tries whether it is well again, or has no
            other.
    """

    def __init__(self, runtime: Runtime, plan: Plan, request: Headers, *, tries: bool) -> None:
        most, patience = runtime.configuration.retry_attempts, runtime.configuration.retry_seconds
        told = headers.value_of(request, b"x-stainless-timeout")
        if told.isdecimal():
            patience = min(patience, int(told) / 2)
        self.cooldowns = runtime.cooldowns
        self.plan = plan
        self.most = most
        self.sole = len({target for stage in plan for target in stage}) == 1
        # A client that tries again by itself gets one for each of its own.
        again = headers.value_of(request, b"x-stainless-retry-count") not in ("", "0")
        self.total = 1 if again or self.sole or not tries else most * len(plan)
        self.deadline = time.monotonic() + patience
        self.stage = 0
        self.made = 0
        self.made_in_all = 0
        self.tried: set[Target] = set()
        self.out: set[Target] = set()
        self.insists = False

    def models(self) -> set[tuple[str, str]]:
        """Whatever may answer: providers, and by which name they sell the model."""
        return {
            (target.provider_key.provider, target.sold_as()) for stage in self.plan for target in stage if target.model
        }

    @property
    def may_go_on(self) -> bool:
        """Whether another attempt may follow this one."""
        return self.made_in_all < self.total and (self.made < self.most or self.stage + 1 < len(self.plan))

    async def next(self) -> Target | None:
        """The target of the next attempt, once it may be made; None: there is none to come."""
        while self.made_in_all < self.total and self.stage < len(self.plan):
            if self.made < self.most:
                target = await self._in_stage()
                if target is not None:
                    self.made += 1
                    self.made_in_all += 1
                    self.tried.add(target)
                    return target
            self.stage += 1
            self.made = 0
        return None

    async def _in_stage(self) -> Target | None:
        stage = [target for target in self.plan[self.stage] if target not in self.out]
        for target in stage:
            if target not in self.tried and await self._is_open(target):
                return target
        # Round again: who is ready first, after a pause that grows.
        now = time.monotonic()
        waits = {}
        for target in stage:
            cooldown = self.cooldowns.of(target.provider_key, target.model)
            waits[target] = 0.0 if cooldown is None else cooldown.until - now + MARGIN
        if not waits or (not self.made and min(waits.values()) <= 0):
            return None  # somebody else tries first whether it is well again
        target = min(waits, key=waits.__getitem__)
        if waits[target] > 0 and self.stage + 1 < len(self.plan):
            return None  # a fallback answers sooner
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self.made - 1))
        wait = max(waits[target], random.uniform(0, pause) if self.made else 0.0)  # noqa: S311 - jitter
        if now + wait > self.deadline:
            return None
        await asyncio.sleep(wait)
        return target if await self._is_open(target) else None

    async def _is_open(self, target: Target) -> bool:
        if self.sole:
            self.insists = True
            return True
        provider_key, model = target.provider_key, target.model
        if self.cooldowns.of(provider_key, model) is not None:
            return False
        self.insists = self.cooldowns.needs_trial(provider_key, model)
        return not self.insists or await self.cooldowns.claim(provider_key, model)

    def closed(self) -> GatewayError:
        """Why no attempt may be made at all: every target cools down."""
        found = [self.cooldowns.of(target.provider_key, target.model) for stage in self.plan for target in stage]
        cooldown = min((one for one in found if one is not None), key=lambda one: one.until, default=None)
        return cooling(cooldown)


def cooling(cooldown: KnownCooldown | None) -> GatewayError:
    """The error for a call whose provider keys all cool down."""
    seconds = 1 if cooldown is None else max(1, -int(-(cooldown.until - time.monotonic()) // 1))
    if cooldown is not None and cooldown.reason == CooldownReason.REFUSED:
        return account_refused()
    if cooldown is not None and cooldown.reason == CooldownReason.RATE_LIMITED:
        message = (
            f"The provider's rate limit is reached on every provider key for this model: try again in {seconds} s."
        )
        return GatewayError(429, "rate_limit_error", message, reason="provider_limit", retry_after=seconds)
    return errors.unavailable(
        f"The provider keeps failing on every provider key for this model: try again in {seconds} s.",
        reason="provider_failing",
        retry_after=seconds,
    )


def account_refused() -> GatewayError:
    """No provider key is taken by its provider."""
    return errors.unavailable(
        "The provider refuses the gateway's own key or account; its administrators have to see to it.",
        reason="provider_account",
        retry=False,
    )


async def once(call: Call, incoming: Incoming) -> Answer:
    """Make a call that is made once.

    Raises:
        GatewayError: the provider could not be reached, or didn't answer.
    """
    try:
        return await send(call, incoming)
    except UpstreamError as error:
        raise failed(call, error) from None


async def answered(call: Call, incoming: Incoming) -> Answer:
    """Make a call as often as it takes: the answer that no further attempt could better, or else the first failure.

    Raises:
        GatewayError: there is no answer.
    """
    first: Failure | None = None
    while True:
        outcome = await attempt(call, incoming)
        if not isinstance(outcome, Failure):
            return outcome
        first = first or outcome
        if not await go_on(call, outcome):
            return give_up(call, first, outcome)


async def attempt(call: Call, incoming: Incoming) -> Answer | Failure:
    """One attempt at the call's target; what its outcome says of the provider key is noted."""
    target, trial, cooldowns = call.target, call.journey.insists, call.runtime.cooldowns
    try:
        answer = await send(call, incoming)
        if answer.status >= 400:
            answer = await read_error(call, answer)
    except UpstreamError as error:
        await cooldowns.failed(target.provider_key, "", call.http_status, None, trial=trial)
        return unanswered(call, error)
    except GatewayError as error:
        # Its protocol can't say this; another one may.
        return Failure(target, error.reason, error=error, hopeless=True)
    if isinstance(answer, Kept):
        failure = judged(call, answer)
        if failure is not None:
            await note(call, failure, trial=trial)
            return failure
    elif answer.status == 200 and call.journey.may_go_on and headers.is_stream(answer.headers):
        begun = await beginning(call, answer)
        if isinstance(begun, Failure):
            await cooldowns.failed(target.provider_key, target.model, begun.http_status, None, trial=trial)
            return begun
        answer = begun
    await cooldowns.succeeded(target.provider_key, target.model, trial=trial)
    return answer


async def send(call: Call, incoming: Incoming) -> Answer:
    """Send the request to the call's target.

    Raises:
        UpstreamError: there was no answer.
    """
    http, provider_key = incoming.http, call.provider_key
    outgoing = Outgoing(
        incoming.method or http.method or "",
        incoming.path or incoming.endpoint.path,
        http.scope["query_string"],
        http.scope["headers"],
        incoming.body_for(call.key, call.target),
        provider_key,
        call.goes_out,
        call.target.model,
        call.timeouts,
    )
    answer = await call.runtime.providers[provider_key.provider].send(outgoing)
    call.http_status = answer.status
    call.provider_request_id = headers.value_of(answer.headers, b"request-id")
    call.account = headers.account(answer.headers)
    call.runtime.accounts.note(provider_key, call.account)
    return answer


async def read_error(call: Call, answer: Answer) -> Kept:
    """An error, read to its end.

    Raises:
        UpstreamError: it broke off.
    """
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(call.timeouts.between_bytes):
            while size < LONGEST_ERROR and (part := await answer.read()):
                parts.append(part)
                size += len(part)
                call.saw_first_byte()
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None
    finally:
        answer.close()
    return Kept(answer.status, answer.headers, [b"".join(parts)])


def judged(call: Call, answer: Kept) -> Failure | None:
    """An error that another attempt may mend; None for what any provider key would say."""
    status, [body] = answer.status, answer.parts
    meter = JsonMeter()
    meter.read(body)
    failure = Failure(
        call.target,
        meter.reading.error_type,
        answer=answer,
        http_status=status,
        provider_request_id=call.provider_request_id,
        wait=retry_after(answer.headers),
    )
    if is_about_us(call, status, body):
        failure.error, failure.refused, failure.hopeless = account_refused(), True, True
        return failure
    return failure if status in PASSING_STATUSES or status >= 500 else None


async def note(call: Call, failure: Failure, *, trial: bool) -> None:
    """What an error says of the provider key, for all who would call it next."""
    cooldowns, provider_key, status = call.runtime.cooldowns, failure.target.provider_key, failure.http_status or 0
    if failure.refused:
        logger.error("provider key %s was refused: HTTP %d", provider_key.name, status)
        await cooldowns.refused(provider_key, status, trial=trial)
    elif status == 429:
        await cooldowns.limited(provider_key, failure.target.model, failure.wait, trial=trial)
    elif status >= 500:
        # An overloaded model says nothing of the others.
        model = failure.target.model if status == 529 else ""
        await cooldowns.failed(provider_key, model, status, failure.wait, trial=trial)


async def beginning(call: Call, answer: Answer) -> Kept | Failure:
    """A stream, once its first block has begun or has been long in coming; what was read of it comes first."""
    meter, parts = StreamMeter(), list[bytes]()
    try:
        async with asyncio.timeout(BLOCK_SECONDS):
            while not (meter.has_block or meter.stopped or meter.failed) and (part := await answer.read()):
                parts.append(part)
                meter.feed(part)
        ended = not (meter.has_block or meter.stopped)
    except TimeoutError:
        ended = False
    except UpstreamError:
        ended = True
    if not ended:
        return Kept(answer.status, answer.headers, parts, answer)
    answer.close()
    return Failure(
        call.target,
        meter.reading.error_type or "broken_off",
        error=errors.broken_off(),
        answer=Kept(answer.status, answer.headers, parts),
        reading=meter.reading,
        http_status=answer.status,
        provider_request_id=call.provider_request_id,
        unseen_tokens=call.unseen_tokens() if meter.started else None,
        hopeless=True,
    )


def unanswered(call: Call, error: UpstreamError) -> Failure:
    """An attempt without an answer, or with half of one."""
    unsure = error.sent and (call.http_status or 200) < 400
    return Failure(
        call.target,
        error.kind,
        error=what_happened(error),
        http_status=call.http_status,
        provider_request_id=call.provider_request_id,
        unseen_tokens=call.unseen_tokens() if unsure else None,
        unsure=unsure,
    )


async def go_on(call: Call, failure: Failure) -> bool:
    """Aim the call at its next target, if there is one and the arbiter holds what it takes besides."""
    if failure.unsure and not failure.target.provider_key.retry_unanswered:
        return False
    if failure.hopeless:
        call.journey.out.add(failure.target)
    target = await call.journey.next()
    if target is None:
        return False
    call.end_attempt(failure, at_ceiling=failure.unsure)
    if (target != call.target or failure.unseen_tokens is not None) and not await call.hold_more(target):
        return False
    call.aim(target)
    return True


def give_up(call: Call, first: Failure, last: Failure) -> Answer:
    """No further attempt: what the first one came to is the answer, and the call is settled.

    Raises:
        GatewayError: the answer is ours to give.
    """
    several = bool(call.attempts)
    if several:
        if call.attempting:
            call.end_attempt(last, at_ceiling=False)
        call.look_back(first)
    if first.answer is not None and (first.error is None or (first.http_status == 200 and not several)):
        return first.answer
    error = first.error or errors.broken_off()
    if several and error.status_code >= 500:
        error.retry = False
    if first.refused:
        call.finish(Status.REFUSED_BY_PROVIDER, Reading(error_type=first.error_type), free=True)
    elif several or first.unseen_tokens is None:
        call.finish(Status.FAILED, Reading(), error_type=first.error_type, free=True)
    else:
        call.abandon(Status.FAILED, Reading(error_type=first.error_type))
    raise error


def is_about_us(call: Call, status: int, body: bytes) -> bool:
    """Whether an error is about our own key or account, and so no business of the caller's."""
    return call.provider_key.id is not None and (status in ACCOUNT_STATUSES or SPENT_ACCOUNT in body)


def failed(call: Call, error: UpstreamError) -> GatewayError:
    """Settle a call that the provider did not answer to the end, and say so to the caller."""
    if error.sent and (call.http_status or 200) < 400:
        call.abandon(Status.FAILED, Reading(error_type=error.kind))
    else:
        call.finish(Status.FAILED, Reading(), error_type=error.kind, free=True)
    return what_happened(error)


def what_happened(error: UpstreamError) -> GatewayError:
    """That a provider did not answer to the end, in words for the caller."""
    if error.kind == "no_answer_in_time":
        return errors.timed_out()
    if error.sent:
        return errors.broken_off()
    return errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable")


def retry_after(answer: Headers) -> float | None:
    """The seconds that an error's `retry-after-ms` or `retry-after` says to wait; None where it doesn't."""
    try:
        if told := headers.value_of(answer, b"retry-after-ms"):
            return max(0.0, float(told) / 1000)
        told = headers.value_of(answer, b"retry-after")
        if not told:
            return None
        if told.replace(".", "", 1).isdecimal():
            return float(told)
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
