"""One call from its admission to its settlement: its state, its attempts, and the one place where it is settled.

billing.py decides what it is billed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from typing import Protocol
from uuid import UUID

import psycopg

from keys.directory import KnownKey, KnownProviderKey
from keys.timeouts import Timeouts
from messages_api.answer import settlement
from messages_api.answer.metering import Reading
from messages_api.process.allowances import Allowances
from messages_api.process.errands import Errands
from messages_api.process.open_calls import OpenCalls
from messages_api.process.patience import Patience
from messages_api.process.prices import Prices
from messages_api.process.records import Records
from messages_api.relay import billing, call_log
from messages_api.relay.attempt import Attempt, Failure
from messages_api.relay.journey import Journey
from messages_api.relay.routing import Target
from messages_api.relay.traces import Trace
from messages_api.request.estimates import Estimate
from messages_api.request.schema import MessagesRequest
from messages_api.server.handler import ApiRequest
from messages_api.upstream.client import Headers
from usage.arbitration import Settlement, clean
from usage.figures import HERE
from usage.free_call_counter import FreeCallCounter
from usage.models import Status
from usage.pricing import ModelPrice
from usage.tokens import TOKENS_PER_SECOND
from usage.writer import Writer

# How long (seconds) an answer waits for its settlement if a budget is nearly empty.
COMMIT_SECONDS = 0.25

HOLD_MORE = "SELECT usage_hold_more(%s, %s, %s, %s, %s, %s, %s)"

logger = logging.getLogger(__name__)


class Surroundings(Protocol):
    """What a call needs from its process."""

    writer: Writer
    records: Records
    errands: Errands
    free_calls: FreeCallCounter
    open_calls: OpenCalls
    prices: Prices
    patience: Patience
    allowances: Allowances
    logs_calls: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that is relayed to a provider; free calls hold nothing and are counted (usage.free_calls)."""

    name: str
    path: str
    free: bool


@dataclass(slots=True, eq=False)
class Call:
    """An admitted call. The first `finish` settles it; later ones change nothing.

    Attributes:
        attempts: all attempts; the last one may be under way. `shown` is the attempt whose outcome the caller gets, if
            that isn't the last one. `journey` chooses the next targets.
        tight: a budget is nearly empty: another call like this one may not fit until this one is settled.
        ceiling: the most USD that the owner may pay for an attempt; `cost_factor`: the part of it that the provider
            charges, if not all of it; `most_tokens`: the most tokens that it may use.
        failure: the outcome of the last attempt, while the call waits for the next one.
        cut: its key was revoked together with its open calls.
        read_on: its client has disconnected, and the answer is still read to its end.
        trace: the trace that it belongs to; None: there are no traces.
    """

    surroundings: Surroundings
    id: UUID
    key: KnownKey
    attempts: list[Attempt]
    journey: Journey
    request: MessagesRequest
    estimate: Estimate
    http_request: ApiRequest
    endpoint: Endpoint
    standing: Headers = field(default_factory=list)
    tight: bool = False
    committed: asyncio.Event | None = None
    began: float = field(default_factory=time.monotonic)
    admitted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ceiling: Decimal = Decimal(0)
    cost_factor: Decimal | None = None
    most_tokens: int = 0
    shown: Attempt | None = None
    failure: Failure | None = None
    cut: bool = False
    read_on: bool = False
    settled: bool = False
    trace: Trace | None = None

    @property
    def free(self) -> bool:
        """Whether the call costs nothing."""
        return self.endpoint.free

    @property
    def attempt(self) -> Attempt:
        """The last attempt: under way, or over."""
        return self.attempts[-1]

    @property
    def attempting(self) -> bool:
        """Whether an attempt is under way."""
        return self.attempts[-1].row is None

    @property
    def attempts_over(self) -> int:
        """The number of attempts that are over."""
        return len(self.attempts) - self.attempting

    @property
    def target(self) -> Target:
        """The target of the current attempt, or of the attempt whose outcome the caller gets."""
        return (self.shown or self.attempts[-1]).target

    @property
    def price(self) -> ModelPrice:
        """The price of the model at the target."""
        return (self.shown or self.attempts[-1]).price

    @property
    def provider_key(self) -> KnownProviderKey:
        """The provider key of the target."""
        return (self.shown or self.attempts[-1]).target.provider_key

    @property
    def model(self) -> str:
        """The provider's name of the model, or else the request's."""
        return (self.shown or self.attempts[-1]).target.model or self.request.model

    @property
    def account(self) -> tuple[str, str]:
        """The provider's organisation and workspace that answered."""
        return self.attempts[-1].account

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the call runs on."""
        return self.http_request.task.get_loop()

    @property
    def timeouts(self) -> Timeouts:
        """The time-outs of the current attempt."""
        return self.attempts[-1].timeouts

    def finish(
        self,
        status: Status,
        reading: Reading,
        *,
        error_type: str = "",
        free: bool = False,
        unseen_tokens: int | None = None,
    ) -> None:
        """Settle the call. A call that is settled already stays as it is.

        These settle a call, directly or by `abandon`, or give its hold back by `withdraw`:

        - story.py: `render`, once a whole answer is read; `settle_refusal`, which also withdraws; `under_way`, if an
          exception ends the call before there is an answer.
        - stream.py: the end of a stream, whichever it is; at last `EventStream.close`. download.py likewise.
        - attempts.py: `give_up` and `settle_failure`, if no provider answers, or not to the end.
        - reading_on.py: the end of an answer that is read on without its client.
        - stored/batches.py and batch_making.py.

        Args:
            reading: what was read of the answer.
            free: the call cost nothing: nothing was sent, or the provider refused it.
            unseen_tokens: the estimate of its output tokens, if its end was not seen; None: it was seen.
        """
        if self.settled:
            return
        if self.free:
            self.surroundings.free_calls.count(self.key.id, self.endpoint.name, status.value)
            HERE.calls[self.endpoint.name, self.provider_key.provider, status.value] += 1
            if self.surroundings.logs_calls:
                call_log.without_row(self, status.value, time.monotonic() - self.began)
            if self.trace is not None:
                self.trace.end(self, status.value, error_type=error_type or reading.error_type)
            self.leave()
            return
        if self.read_on and status is Status.COMPLETED:
            status = Status.CLIENT_DISCONNECTED
        committed = None if self.trace is None else self.trace.committed()
        if self.tight:
            self.committed = committed = committed or asyncio.Event()
        settled = self.settlement(status, reading, error_type, free, unseen_tokens)
        self.surroundings.writer.settle(settled, committed)
        sent_at, read_at = self.attempts[0].sent_at, self.http_request.read_at
        HERE.note_call(self.endpoint.name, settled, sent_at - read_at if 0 < read_at < sent_at else None)
        if self.surroundings.logs_calls:
            call_log.settled(self, settled)
        if self.trace is not None:
            self.trace.end(self, settled.status, settled)
        self.leave()

    async def commit(self) -> None:
        """If a budget is nearly empty, wait a moment until the settlement is written: the client may call another
        process next, which must not refuse it because of this call's hold.
        """
        if self.committed is not None:
            committed, self.committed = self.committed, None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_SECONDS):
                    await committed.wait()

    def settlement(
        self,
        status: Status,
        reading: Reading,
        error_type: str = "",
        free: bool = False,
        unseen_tokens: int | None = None,
    ) -> Settlement:
        """The settlement from which the ledger row is written; arguments as for `finish`."""
        seconds = time.monotonic() - self.began
        columns, estimated = billing.bill(self, reading, free=free, unseen_tokens=unseen_tokens)
        error_type = error_type or reading.error_type
        last, provider_key, model = self.attempt, self.provider_key, self.model
        rows = [attempt.row for attempt in self.attempts if attempt.row is not None]
        if last.row is None:
            rows.append(last.describe(model, columns, error_type))
        spent = [attempt.columns for attempt in self.attempts if attempt.columns is not None]
        columns = reduce(settlement.added, (*spent, columns))
        shown, first_byte = self.shown or last, last.first_byte
        return Settlement(
            id=self.id,
            model=clean(reading.model or model),
            provider=provider_key.provider,
            provider_key_id=provider_key.id,
            provider_request_id=clean(shown.provider_request_id),
            status=status.value,
            http_status=shown.http_status,
            error_type=error_type,
            stop_reason=reading.stop_reason,
            currency="USD",
            estimated=estimated or bool(spent),
            time_to_first_byte_ms=round((first_byte - self.began) * 1000) if first_byte else None,
            duration_ms=round(seconds * 1000),
            attempts=rows,
            **columns,
        )

    # More than one attempt

    def end_attempt(self, failure: Failure, *, at_ceiling: bool) -> None:
        """Record what the last attempt used, before another attempt is made.

        Args:
            at_ceiling: the attempt may still be running, so it is charged its ceiling.
        """
        free = failure.unseen_tokens is None
        unseen_tokens = self.request.max_tokens if at_ceiling else failure.unseen_tokens
        columns, _ = billing.bill(self, failure.reading, free=free, unseen_tokens=unseen_tokens)
        if at_ceiling and not self.free:
            settlement.at_least(columns, self.ceiling, self.cost_factor)
        attempt = self.attempt
        attempt.row = attempt.describe(self.model, columns, failure.error_type)
        attempt.columns = None if free else columns
        self.failure = None

    async def hold_more(self, target: Target) -> bool:
        """Ask the arbiter to hold the cost of another attempt at this target, in addition to what was spent; True if it
        does.
        """
        if self.free:
            return True
        last, provider_key = self.attempt, target.provider_key
        # The hold already covers what earlier attempts used.
        cost = settlement.owed(last.columns) if last.columns else Decimal(0)
        most_tokens = self.most_tokens + sum(attempt.tokens for attempt in self.attempts)
        # As for usage_hold_more in usage/arbiter/attempts.sql.
        values = [self.id, provider_key.provider, provider_key.id, target.model, cost, last.tokens, most_tokens]
        try:
            rows = await self.surroundings.records.fetch(HOLD_MORE, values)
        except psycopg.Error as error:
            logger.warning("call %s is not tried again (%s)", self.id, type(error).__name__)
            return False
        return bool(rows[0][0])

    def aim(self, target: Target) -> None:
        """Begin another attempt, at this target."""
        price = self.price
        if not self.free:
            provider, now = target.provider_key.provider, datetime.now(UTC)
            price = self.surroundings.prices.price(provider, target.sold_as(), now, self.key)
        timeouts = self.surroundings.patience.timeouts(target.provider_key)
        self.attempts.append(Attempt(target, price, timeouts))

    def withdraw(self) -> None:
        """Give the hold back, as if the call had not been made: it leaves no row."""
        if not self.settled:
            if not self.free:
                self.surroundings.writer.release(self.id)
            if self.surroundings.logs_calls:
                call_log.without_row(self, "withdrawn", time.monotonic() - self.began)
            if self.trace is not None:
                self.trace.end(self, "withdrawn")
            self.leave()

    def leave(self) -> None:
        """Mark the call as over: it is settled, or a task will settle it."""
        self.settled = self.http_request.called = True
        self.surroundings.open_calls.forget(self)

    @property
    def works_unseen(self) -> bool:
        """Whether the provider's tools may run before any part of the answer is seen. That is possible in streamed
        calls, too: a stream may begin late, or the answer arrive in one piece.
        """
        return bool(self.request.extras.uses) and not self.free

    def note_first_byte(self) -> None:
        """Record that the provider's answer has begun."""
        attempt = self.attempts[-1]
        if not attempt.first_byte:
            attempt.first_byte = time.monotonic()

    def abandon(self, status: Status, reading: Reading, *, hidden: bool = True) -> None:
        """Settle a call whose end will not be seen, by a high estimate. A call that was never sent is free.

        Args:
            hidden: the model may have written output that the client did not get; it is estimated by time.
        """
        if self.failure is not None:
            self.end_attempt(self.failure, at_ceiling=False)
        if not self.attempting:  # between two attempts
            self.finish(status, reading, free=True)
            return
        seen = reading.seen.output_tokens + round(reading.unread * TOKENS_PER_SECOND)
        self.finish(status, reading, free=not self.attempt.sent, unseen_tokens=self.unseen_tokens(seen, hidden=hidden))

    def unseen_tokens(self, seen: int = 0, *, hidden: bool = True) -> int:
        """Estimate the output tokens of the current attempt up to now; arguments as for `billing.estimate_output`."""
        return billing.estimate_output(self.attempt, seen, hidden=hidden)
