"""One call between its admission and its settlement: what is known of it, and the one moment at which it is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from keys.directory import KnownKey, KnownProviderKey
from messages_api import settlement
from messages_api.estimates import Estimate
from messages_api.handler import ApiRequest
from messages_api.metering import Reading
from messages_api.schema import MessagesRequest
from messages_api.upstream import Headers
from usage.admission import TOKENS_PER_SECOND, Settlement, clean
from usage.models import Status
from usage.pricing import ModelPrice

if TYPE_CHECKING:
    from messages_api.runtime import Runtime

# How long an answer waits for its settlement, where a budget is nearly empty.
COMMIT_SECONDS = 0.25

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Call:
    """An admitted call. Whoever finishes it first settles it; the rest changes nothing."""

    runtime: Runtime
    id: UUID
    key: KnownKey
    provider_key: KnownProviderKey
    request: MessagesRequest
    estimate: Estimate
    price: ModelPrice
    http_request: ApiRequest
    free: bool = False
    standing: Headers = field(default_factory=list)
    # A budget is nearly empty: the next call like this one may not fit before this one is settled.
    tight: bool = False
    committed: asyncio.Event | None = None
    began: float = field(default_factory=time.monotonic)
    admitted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    first_byte: float = 0.0
    http_status: int | None = None
    provider_request_id: str = ""
    # The provider's organisation and workspace that answered.
    account: tuple[str, str] = ("", "")
    cut: bool = False
    sent: bool = False
    settled: bool = False

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
        if self.tight:
            self.committed = asyncio.Event()
        said = self.settlement(status, reading, error_type, free, unseen_tokens)
        self.runtime.writer.settle(said, self.committed)
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
        if free or self.free:
            reading.usage, unseen_tokens = {}, None
        model = reading.model or self.request.model
        try:
            columns = self._bill(reading, model, unseen_tokens)
        except Exception:
            # Whatever a provider reports, the call must be settled.
            logger.exception("the usage of call %s can't be billed: it is estimated", self.id)
            reading.usage = {}
            unseen_tokens = unseen_tokens or 0
            columns = self._bill(reading, model, unseen_tokens)
        attempt = {
            "provider_key": self.provider_key.name,
            "model": self.request.model,
            "http_status": self.http_status,
            "error_type": error_type or reading.error_type,
            "duration_ms": round(seconds * 1000),
            "cost": str(columns["cost"]),
        }
        return Settlement(
            id=self.id,
            model=clean(model),
            provider=self.provider_key.provider,
            provider_key_id=self.provider_key.id,
            provider_request_id=clean(self.provider_request_id),
            status=status.value,
            http_status=self.http_status,
            error_type=error_type or reading.error_type,
            stop_reason=reading.stop_reason,
            currency="USD",
            estimated=unseen_tokens is not None,
            time_to_first_byte_ms=round((self.first_byte - self.began) * 1000) if self.first_byte else None,
            duration_ms=round(seconds * 1000),
            attempts=[attempt],
            **columns,
        )

    def leave(self) -> None:
        """The call is settled, or somebody else will settle it."""
        self.settled = True
        self.runtime.forget(self)

    def _bill(self, reading: Reading, model: str, unseen_tokens: int | None) -> dict[str, Any]:
        steps = reading.iterations(self.estimate.hour_writes)
        if unseen_tokens is not None:
            steps = settlement.at_least(
                steps, input_tokens=self.estimate.likely, output_tokens=min(unseen_tokens, self.request.max_tokens)
            )
        return settlement.bill(
            steps,
            reading,
            provider=self.provider_key.provider,
            model=model,
            at=self.admitted_at,
            asked=self.price,
            prices=self._price,
        )

    def _price(self, provider: str, model: str, at: datetime) -> ModelPrice:
        return self.runtime.price(provider, model, at) if model else self.price

    def goes_out(self) -> None:
        """The provider is about to get the first byte of it."""
        self.sent = True

    def saw_first_byte(self) -> None:
        """The provider's answer has begun."""
        if not self.first_byte:
            self.first_byte = time.monotonic()

    def abandon(self, status: Status, reading: Reading, *, delivered: int = 0, hidden: bool = True) -> None:
        """Settle a call whose end nobody will see, as an estimate that leans high; one that never went out is free.

        Args:
            delivered: output tokens that the client was sent.
            hidden: the model may have written what nobody was sent: it is reckoned by the time that it had.
        """
        seconds = time.monotonic() - self.began if hidden else 0.0
        # Cancelling takes the provider up to a second, in which the model goes on.
        unseen = max(delivered, round(seconds * TOKENS_PER_SECOND)) + TOKENS_PER_SECOND
        self.finish(status, reading, free=not self.sent, unseen_tokens=unseen)
