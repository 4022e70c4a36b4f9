"""One call between its admission and its settlement: what is known of it, and the one moment at which it is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import psycopg

from keys.directory import KnownKey, KnownProviderKey
from keys.timeouts import Timeouts
from messages_api import plausibility, settlement
from messages_api.allowances import Allowances
from messages_api.attempt import Failure
from messages_api.cache_writes import CacheWrites
from messages_api.errands import Errands
from messages_api.estimates import Estimate
from messages_api.handler import ApiRequest
from messages_api.journey import Journey
from messages_api.metering import Iteration, Reading
from messages_api.open_calls import OpenCalls
from messages_api.patience import Patience
from messages_api.plausibility import Bounds, Implausible
from messages_api.prices import Prices
from messages_api.records import Records
from messages_api.routing import Target
from messages_api.schema import MessagesRequest
from messages_api.seen import Use
from messages_api.settlement import Reckoning
from messages_api.upstream import Headers
from usage.admission import Writer
from usage.arbitration import Settlement, clean
from usage.free_call_counter import FreeCallCounter
from usage.models import Status
from usage.pricing import ModelPrice, current_models
from usage.tokens import TOKEN_COLUMNS, TOKENS_PER_SECOND

# How long an answer waits for its settlement, where a budget is nearly empty.
COMMIT_SECONDS = 0.25

HOLD_MORE = "SELECT usage_hold_more(%s, %s, %s, %s, %s, %s, %s)"

logger = logging.getLogger(__name__)

# What budgets of tokens count; thinking is a part of output.
CHARGED = tuple(name for name in TOKEN_COLUMNS if name not in ("thinking_tokens", "web_search_requests"))


class Surroundings(Protocol):
    """What a call needs of the process that it is made in."""

    writer: Writer
    records: Records
    errands: Errands
    free_calls: FreeCallCounter
    open_calls: OpenCalls
    prices: Prices
    patience: Patience
    allowances: Allowances


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that is relayed to a provider; free calls hold nothing and are counted (usage.free_calls)."""

    name: str
    path: str
    free: bool


@dataclass(slots=True, eq=False)
class Call:
    """An admitted call. Whoever finishes it first settles it; the rest changes nothing.

    Attributes:
        target: where it is being made; `price` is that model's. `journey` knows where it may go on to.
        ceiling: USD that an attempt may cost at most, and `most_tokens` how many it may use.
        attempts: those before the one that is under way, as the ledger row will have them; `earlier` is what they came
            to. `failure` is what became of the last one, while the call waits for the next.
    """

    surroundings: Surroundings
    id: UUID
    key: KnownKey
    target: Target
    journey: Journey
    request: MessagesRequest
    estimate: Estimate
    price: ModelPrice
    http_request: ApiRequest
    endpoint: Endpoint
    standing: Headers = field(default_factory=list)
    # A budget is nearly empty: the next call like this one may not fit before this one is settled.
    tight: bool = False
    committed: asyncio.Event | None = None
    began: float = field(default_factory=time.monotonic)
    admitted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ceiling: Decimal = Decimal(0)
    most_tokens: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    earlier: dict[str, Any] = field(default_factory=dict)
    held_more: tuple[Decimal, int] = (Decimal(0), 0)
    attempting: bool = True
    failure: Failure | None = None
    attempt_began: float = field(default_factory=time.monotonic)
    first_byte: float = 0.0
    http_status: int | None = None
    provider_request_id: str = ""
    # The provider's organisation and workspace that answered.
    account: tuple[str, str] = ("", "")
    cut: bool = False
    sent: bool = False
    # Its client has hung up, and the answer is read to its end all the same.
    read_on: bool = False
    settled: bool = False

    @property
    def free(self) -> bool:
        """Whether it costs nothing."""
        return self.endpoint.free

    @property
    def provider_key(self) -> KnownProviderKey:
        """The one that it is being made with."""
        return self.target.provider_key

    @property
    def model(self) -> str:
        """The model by its provider's name, or as the request has it."""
        return self.target.model or self.request.model

    @property
    def timeouts(self) -> Timeouts:
        """How long the provider may take."""
        return self.surroundings.patience.timeouts(self.provider_key)

    def finish(
        self,
        status: Status,
        reading: Reading,
        *,
        error_type: str = "",
        free: bool = False,
        unseen_tokens: int | None = None,
    ) -> None:
        """Settle the call.

        Args:
            reading: what was read of the answer.
            free: nothing was sent, or the provider refused: it cost nothing.
            unseen_tokens: nobody saw the end; the output tokens that it is reckoned to have come to. None: it was seen.
        """
        if self.settled:
            return
        if self.free:
            self.surroundings.free_calls.count(self.key.id, self.endpoint.name, status.value)
            self.leave()
            return
        if self.read_on and status is Status.COMPLETED:
            status = Status.CLIENT_DISCONNECTED
        if self.tight:
            self.committed = asyncio.Event()
        said = self.settlement(status, reading, error_type, free, unseen_tokens)
        self.surroundings.writer.settle(said, self.committed)
        self.leave()

    async def commit(self) -> None:
        """Where a budget is nearly empty, wait a moment for the settlement to be written: who has the answer may ask
        another process next, and must not be refused for what this call had held."""
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
        """What the call came to, as its ledger row will say it; arguments as for `finish`."""
        seconds = time.monotonic() - self.began
        columns, estimated = self._columns(reading, free, unseen_tokens)
        error_type = error_type or reading.error_type
        attempts = [*self.attempts, self._attempt(columns, error_type)] if self.attempting else self.attempts
        if self.earlier:
            columns = settlement.added(self.earlier, columns)
        return Settlement(
            id=self.id,
            model=clean(reading.model or self.model),
            provider=self.provider_key.provider,
            provider_key_id=self.provider_key.id,
            provider_request_id=clean(self.provider_request_id),
            status=status.value,
            http_status=self.http_status,
            error_type=error_type,
            stop_reason=reading.stop_reason,
            currency="USD",
            estimated=estimated or bool(self.earlier),
            time_to_first_byte_ms=round((self.first_byte - self.began) * 1000) if self.first_byte else None,
            duration_ms=round(seconds * 1000),
            attempts=attempts,
            **columns,
        )

    def _columns(self, reading: Reading, free: bool, unseen_tokens: int | None) -> tuple[dict[str, Any], bool]:
        """The ledger's columns for what was read, and whether they are an estimate."""
        if free or self.free:
            reading.usage, reading.doubtful, unseen_tokens = {}, False, None
        elif unseen_tokens is not None and settlement.is_free(reading.refusal, self.provider_key.provider):
            # The end was seen, as far as it matters.
            unseen_tokens = None if reading.countable else 0
        try:
            columns = self._bill(reading, unseen_tokens)
            return columns, unseen_tokens is not None or reading.doubtful
        except Implausible:
            reading.usage, reading.doubtful, reading.seen.reported = {}, True, 0
            seen = self.unseen_tokens(reading.seen.output_tokens, hidden=False)
            return self._bill(reading, max(seen, unseen_tokens or 0)), True
        except Exception:
            # Whatever a provider reports, the call must be settled.
            logger.exception("the usage of call %s can't be billed: it is estimated", self.id)
            reading.usage = {}
            return self._bill(reading, unseen_tokens or 0), True

    def _attempt(self, columns: dict[str, Any], error_type: str, ended: float | None = None) -> dict[str, Any]:
        began = self.first_byte
        return {
            "provider_key_id": self.provider_key.id,
            "provider_key": self.provider_key.name,  # as it was called then
            "provider": self.provider_key.provider,
            "model": self.model,
            "http_status": self.http_status,
            "error_type": error_type,
            "provider_request_id": clean(self.provider_request_id),
            **({"time_to_first_byte_ms": round((began - self.attempt_began) * 1000)} if began else {}),
            "duration_ms": round(((ended or time.monotonic()) - self.attempt_began) * 1000),
            **{name: columns[name] for name in TOKEN_COLUMNS if columns[name]},
            "cost": f"{columns['cost'].normalize():f}",
        }

    # More than one attempt

    def end_attempt(self, failure: Failure, *, at_ceiling: bool) -> None:
        """Note what an attempt came to that another one is to mend.

        Args:
            at_ceiling: it may be under way still: it costs all that it may.
        """
        free = failure.unseen_tokens is None
        columns, _ = self._columns(
            failure.reading, free, self.request.max_tokens if at_ceiling else failure.unseen_tokens
        )
        if at_ceiling and not self.free:
            columns["cost"] = max(columns["cost"], self.ceiling)
        self.attempts.append(self._attempt(columns, failure.error_type, failure.ended))
        if not free:
            self.earlier = settlement.added(self.earlier, columns) if self.earlier else columns
        self.attempting, self.failure = False, None

    async def hold_more(self, target: Target) -> bool:
        """Have the arbiter hold what another attempt may cost beside what was spent, there; whether it does."""
        if self.free:
            return True
        spent, tokens = self.earlier.get("cost", Decimal(0)), sum(self.earlier.get(name, 0) for name in CHARGED)
        cost, more = spent - self.held_more[0], tokens - self.held_more[1]
        self.held_more = spent, tokens
        provider_key = target.provider_key
        # As for usage_hold_more in usage/sql/attempts.sql.
        values = [self.id, provider_key.provider, provider_key.id, target.model, cost, more, tokens + self.most_tokens]
        try:
            rows = await self.surroundings.records.fetch(HOLD_MORE, values)
        except psycopg.Error as error:
            logger.warning("call %s is not tried again (%s)", self.id, type(error).__name__)
            return False
        return bool(rows[0][0])

    def aim(self, target: Target) -> None:
        """Another attempt begins."""
        self.target = target
        if not self.free:
            self.price = self.surroundings.prices.price(
                target.provider_key.provider, target.sold_as(), datetime.now(UTC)
            )
        self.attempting, self.attempt_began = True, time.monotonic()
        self.sent, self.http_status, self.provider_request_id, self.first_byte = False, None, "", 0.0

    def look_back(self, failure: Failure) -> None:
        """No attempt is under way any more; what the caller gets is what one of them came to."""
        self.attempting = False
        self.target = failure.target
        self.http_status, self.provider_request_id = failure.http_status, failure.provider_request_id

    def withdraw(self) -> None:
        """Give back what is held, as if the call had not been made: it leaves no row."""
        if not self.settled:
            if not self.free:
                self.surroundings.writer.release(self.id)
            self.leave()

    def leave(self) -> None:
        """The call is settled, or somebody else will settle it."""
        self.settled = True
        self.surroundings.open_calls.forget(self)

    def _bill(self, reading: Reading, unseen_tokens: int | None) -> dict[str, Any]:
        cache_writes = settlement.kept_for(self.request.cache_writes, self.provider_key.provider)
        reported = reading.iterations(cache_writes != "5m")
        columns = self._priced(reported, reading, cache_writes, plausibility.bounds(self.request))
        if unseen_tokens is None:
            return columns
        least = columns["cost"]
        reckoning = self._reckoning(cache_writes)
        uses = self._uses(reading, reckoning)
        columns = self._priced(reckoning.steps(reported, unseen_tokens, uses), reading, cache_writes)
        if uses and columns["cost"] > self.ceiling:
            # An estimate takes no more than what is held; what was reported does.
            columns["cost"] = max(self.ceiling, least)
        return columns

    def _priced(
        self, steps: list[Iteration], reading: Reading, cache_writes: CacheWrites, bounds: Bounds | None = None
    ) -> dict[str, Any]:
        return settlement.bill(
            steps,
            reading,
            provider=self.provider_key.provider,
            model=reading.model or self.model,
            at=self.admitted_at,
            asked=self.price,
            prices=self._price,
            bounds=bounds,
            cache_writes=cache_writes,
        )

    def _reckoning(self, cache_writes: CacheWrites) -> Reckoning:
        extras, provider = self.request.extras, self.provider_key.provider
        others = (*extras.models, *(current_models() if extras.default_fallbacks else ()))
        return Reckoning(
            self.estimate.likely,
            self.request.max_tokens,
            extras,
            self.surroundings.allowances,
            cache_writes if self.estimate.writes else None,
            max(others, key=lambda model: self._price(provider, model, self.admitted_at).output, default=""),
        )

    def _uses(self, reading: Reading, reckoning: Reckoning) -> list[Use]:
        """The uses of the provider's tools that nobody counted. Of an answer in one piece nothing is seen before its
        end, nor of one that was to be a stream and hasn't begun, for it may come in one piece all the same: a client
        that doesn't wait for it pays all that may be under way, others by the time that it took."""
        if reading.content is not None:
            return reading.seen.unreported
        gone = self.http_request.client_gone
        return reckoning.unseen_uses(None if gone else time.monotonic() - self.attempt_began)

    @property
    def works_unseen(self) -> bool:
        """Whether the provider's tools may run before anything of the answer is seen."""
        return bool(self.request.extras.uses) and not self.free

    def _price(self, provider: str, model: str, at: datetime) -> ModelPrice:
        return self.surroundings.prices.price(provider, self.target.sold_as(model), at) if model else self.price

    def goes_out(self) -> None:
        """The provider is about to get the first byte of it."""
        self.sent = True

    def saw_first_byte(self) -> None:
        """The provider's answer has begun."""
        if not self.first_byte:
            self.first_byte = time.monotonic()

    def abandon(self, status: Status, reading: Reading, *, hidden: bool = True) -> None:
        """Settle a call whose end nobody will see, as an estimate that leans high; one that never went out is free.

        Args:
            hidden: the model may have written what nobody was sent: it is reckoned by the time that it had.
        """
        if self.failure is not None:
            self.end_attempt(self.failure, at_ceiling=False)
        if not self.attempting:  # between two attempts
            self.finish(status, reading, free=True)
            return
        seen = reading.seen.output_tokens
        self.finish(status, reading, free=not self.sent, unseen_tokens=self.unseen_tokens(seen, hidden=hidden))

    def unseen_tokens(self, seen: int = 0, *, hidden: bool = True) -> int:
        """The output tokens that an attempt is reckoned to have come to by now.

        Args:
            seen: those that passed.
            hidden: as for `abandon`.
        """
        seconds = time.monotonic() - self.attempt_began if hidden else 0.0
        # Cancelling takes the provider up to a second, in which the model goes on.
        return max(seen, round(seconds * TOKENS_PER_SECOND)) + TOKENS_PER_SECOND
