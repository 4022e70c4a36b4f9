"""The results of a message batch, line by line: what each request used, at batch prices.

Used while a caller downloads the results, and otherwise by the task that reads them. No I/O. The clock is read only for
a batch whose end isn't known.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from messages_api.answer import settlement
from messages_api.answer.account_states import MOST_STATES, State
from messages_api.answer.metering import JsonMeter, Reading
from messages_api.answer.plausibility import OF_HOLD, Implausible, of_batch
from usage.arbitration import clean
from usage.models import Status
from usage.pricing import ModelPrice, Owner, Payer
from usage.splits import PLACES

logger = logging.getLogger(__name__)

OwnersPriceOf = Callable[[str, str, datetime, Payer], ModelPrice]

# A line is an answer of a model: a few MB at most.
LONGEST_LINE = 16 << 20
# Characters of a custom id that are kept: a longer one belongs to no batch of this gateway.
ID_LENGTH = 65
# There is one line for each request. After this many further lines, the rest isn't read.
SPARE = 100
# What a batch may bind to its account, for each request: each is a row for 30 days. Every batch may bind as much as a
# single answer.
STATES_PER_REQUEST = 10

# The status of ledger rows for requests that no model answered, which cost nothing.
UNANSWERED = {
    "errored": Status.REFUSED_BY_PROVIDER,
    "canceled": Status.FAILED,
    "expired": Status.FAILED,
}

SETTLE = """
WITH settled AS (SELECT usage_settle_parts(%(id)s, %(lines)s::jsonb, %(last)s) AS parts)
UPDATE messages_api_batch b SET settled_requests = b.settled_requests + settled.parts,
    state = CASE WHEN %(last)s AND b.state = 'running' THEN 'settled' ELSE b.state END
FROM settled WHERE b.id = %(id)s
RETURNING b.settled_requests
"""


class Result(Struct):
    """The result of one request."""

    type: str
    message: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


class ResultLine(Struct):
    """A line of the results."""

    custom_id: str
    result: Result


line_of = msgspec.json.Decoder(ResultLine)


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """The facts about a batch that its results are settled by. Money in USD, as the owner pays;
    `cost_factor`: the part of it that the provider charges, if not all of it.
    """

    id: UUID
    provider_batch_id: str
    provider: str
    provider_key: int | None
    created_at: datetime
    ended_at: datetime | None
    requests: int
    ceiling: Decimal
    custom_ids: str
    hour_writes: bool
    settled: bool
    organization_id: str
    workspace_id: str
    cost_factor: Decimal | None = None
    virtual_key: int = 0
    team: int | None = None
    customer: int = 0

    @property
    def owner(self) -> Owner:
        """Who pays for it."""
        return Owner(self.virtual_key, self.team, self.customer)


class ResultsMeter:
    """Reads results while they arrive, cut at any byte, and collects the lines to settle.

    Args:
        prices: the price of a model at a moment, with what an owner pays.
        asked: the price for models that have no price of their own.
    """

    def __init__(self, batch: KnownBatch, prices: OwnersPriceOf, asked: ModelPrice) -> None:
        self.batch = batch
        self.prices = prices
        self.asked = asked
        self.custom_ids: list[str] = []
        # What the answers bind to the account, since the caller last took it, and how much more they may bind.
        self.states: list[State] = []
        self.states_left = MOST_STATES + STATES_PER_REQUEST * batch.requests
        # USD that the remaining results may cost: a higher cost can't be true.
        self.left = OF_HOLD * batch.ceiling
        self.ended_at = batch.ended_at or datetime.now(UTC)
        self.waiting: list[dict[str, Any]] = []
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._lines = self._unreadable = 0

    @property
    def too_many(self) -> bool:
        """Whether there are more results than the batch can have."""
        return self._lines > self.batch.requests + SPARE

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        if self.too_many:
            return
        *lines, rest = chunk.split(b"\n")
        if lines:
            first = b"".join((*self._rest, lines[0]))
            self._rest.clear()
            self._rest_bytes = 0
            for line in (first, *lines[1:]):
                self._line(line)
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            if self._rest_bytes > LONGEST_LINE:
                self._rest = [b"!"]
                self._rest_bytes = 1

    def finish(self) -> bool:
        """Read the last line, which may lack its line end. Returns whether the results are complete."""
        self._line(b"".join(self._rest))
        self._rest.clear()
        if self._unreadable:
            # It is unknown which requests they belong to: their share stays held.
            logger.error("%d lines of the results of batch %s can't be read", self._unreadable, self.batch.id)
        if self.too_many:
            logger.error("batch %s has more results than requests", self.batch.id)
        complete = len(set(self.custom_ids)) >= self.batch.requests
        if not complete:
            logger.error("batch %s has only %d of %d results", self.batch.id, len(self.custom_ids), self.batch.requests)
        elif not self.are_its_own:
            logger.error("the results of batch %s belong to other requests than its own", self.batch.id)
        return complete

    @property
    def are_its_own(self) -> bool:
        """Whether the results have the custom ids of the batch's own requests."""
        digest = hashlib.sha256("\n".join(sorted(self.custom_ids)).encode("utf-8", "replace")).hexdigest()
        return digest == self.batch.custom_ids

    def take(self, most: int) -> bytes:
        """The next lines to settle, in the form of `usage_settle_parts`."""
        lines, self.waiting = self.waiting[:most], self.waiting[most:]
        return msgspec.json.encode(lines)

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        self._lines += 1
        if self.too_many:
            return
        try:
            read = line_of.decode(line)
        except (ValueError, RecursionError):
            self._unreadable += 1
            return
        self.custom_ids.append(read.custom_id[:ID_LENGTH])
        self.waiting.append(self._settlement(read))

    def _bind(self, states: list[State]) -> None:
        if 0 < self.states_left < len(states):
            logger.warning("batch %s binds too many ids: the rest is not stored", self.batch.id)
        bound = states[: self.states_left]
        self.states += bound
        self.states_left -= len(bound)

    def _settlement(self, line: ResultLine) -> dict[str, Any]:
        batch, result = self.batch, line.result
        # It is no longer known which requests had a `thread`: any answer may belong to one.
        meter = JsonMeter(threaded=True)
        meter.read(bytes(result.message if result.type == "succeeded" else result.error))
        reading = meter.reading
        self._bind(meter.states)
        status, estimated = UNANSWERED.get(result.type, Status.COMPLETED), False
        error_type = reading.error_type or (result.type if status is Status.FAILED else "")
        try:
            columns, counted = self._bill(reading), reading.countable
        except Implausible:
            reading.usage, reading.doubtful = {}, True
            columns, counted = self._bill(reading), False
        if status is Status.COMPLETED and not counted:
            estimated = True
            # An answer whose usage can't be read costs its share of the hold.
            if not settlement.is_free(reading.refusal, batch.provider):
                owed = (batch.ceiling / batch.requests).quantize(PLACES)
                columns["cost"] = settlement.share(owed, batch.cost_factor)
                columns["charge"] = None if batch.cost_factor is None else owed
                settlement.without_split(columns)
        elif status is not Status.COMPLETED:
            columns["cost"], columns["charge"] = Decimal(0), None
            settlement.without_split(columns)
        self.left = max(Decimal(0), self.left - settlement.owed(columns))
        return {
            "part": clean(line.custom_id),
            "ended_at": self.ended_at,
            "client_labels": {"batch": clean(batch.provider_batch_id), "custom_id": clean(line.custom_id)},
            "endpoint": "batches.request",
            "provider": batch.provider,
            "provider_key_id": batch.provider_key,
            "provider_request_id": "",
            "status": status.value,
            "http_status": None,
            "error_type": clean(error_type),
            "stop_reason": reading.stop_reason,
            "currency": "USD",
            "estimated": estimated or reading.doubtful,
            "time_to_first_byte_ms": None,
            "duration_ms": max(0, min(round((self.ended_at - batch.created_at).total_seconds() * 1000), 2**31 - 1)),
            "attempts": [],
            **columns,
            # Without an answer, the model is that of the batch, if all its requests name the same one.
            **({"model": reading.model, "requested_model": reading.model} if reading.model else {}),
        }

    def _bill(self, reading: Reading) -> dict[str, Any]:
        reading.usage["service_tier"] = "batch"
        return settlement.bill(
            reading.iterations(self.batch.hour_writes),
            reading,
            provider=self.batch.provider,
            model=reading.model,
            at=self.batch.created_at,
            asked=self.asked,
            prices=lambda provider, model, at: self.prices(provider, model, at, self.batch.owner),
            bounds=of_batch(self.left),
            # It is no longer known what each request asked for.
            cache_writes="both" if self.batch.hour_writes else "5m",
        )
