"""An attempt of a call: where it was made, and its outcome."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from keys.timeouts import Timeouts
from messages_api.answer.metering import JsonMeter, Reading
from messages_api.relay.routing import Target
from messages_api.server.errors import GatewayError
from messages_api.upstream.client import Answer, Headers
from usage.arbitration import clean
from usage.pricing import ModelPrice
from usage.tokens import TOKEN_COLUMNS

# What budgets of tokens count; thinking is a part of output.
CHARGED = tuple(name for name in TOKEN_COLUMNS if name not in ("thinking_tokens", "web_search_requests"))


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt of a call. Times are by the monotonic clock.

    Attributes:
        price: of the model at the target; `timeouts`: of the provider key.
        sent: its first byte has gone out: from then on it may cost something.
        account: the provider's organisation and workspace that answered.
        span_id: of its span, once it is made by a traced call.
        ended: when it failed.
        row: how the ledger row shows it, once it is over; `columns`: the ledger's columns for its usage, if it cost
            anything.
    """

    target: Target
    price: ModelPrice
    timeouts: Timeouts
    began: float = field(default_factory=time.monotonic)
    sent: bool = False
    sent_at: float = 0.0
    http_status: int | None = None
    provider_request_id: str = ""
    first_byte: float = 0.0
    account: tuple[str, str] = ("", "")
    span_id: str = ""
    ended: float = 0.0
    row: dict[str, Any] | None = None
    columns: dict[str, Any] | None = None

    @property
    def tokens(self) -> int:
        """The tokens that the attempt used, as budgets of tokens count them."""
        return sum(self.columns[name] for name in CHARGED) if self.columns else 0

    def note_sending(self) -> None:
        """Note that the first byte is about to go to the provider."""
        self.sent, self.sent_at = True, time.monotonic()

    def describe(self, model: str, columns: dict[str, Any], error_type: str) -> dict[str, Any]:
        """How the ledger row shows the attempt. Args:
        model: by the provider's name.
        columns: the ledger's columns for its usage.
        """
        provider_key = self.target.provider_key
        first_byte = {"time_to_first_byte_ms": round((self.first_byte - self.began) * 1000)} if self.first_byte else {}
        return {
            "provider_key_id": provider_key.id,
            "provider_key": provider_key.name,  # its name at that time
            "provider": provider_key.provider,
            "model": model,
            "http_status": self.http_status,
            "error_type": error_type,
            "provider_request_id": clean(self.provider_request_id),
            **first_byte,
            "duration_ms": round(((self.ended or time.monotonic()) - self.began) * 1000),
            **{name: columns[name] for name in TOKEN_COLUMNS if columns[name]},
            "cost": f"{columns['cost'].normalize():f}",
            **({} if columns["charge"] is None else {"charge": f"{columns['charge'].normalize():f}"}),
        }


@dataclass(slots=True)
class ReadAnswer:
    """An answer, or the beginning of one, that has been read.

    Attributes:
        meter: what it reports, if all of it was read; `understood`: it is a JSON object.
    """

    status: int
    headers: Headers
    parts: list[bytes]
    rest: Answer | None = None
    meter: JsonMeter | None = None
    understood: bool = False

    @property
    def body(self) -> bytes:
        """The bytes that were read and not yet returned."""
        return b"".join(self.parts)

    async def read(self) -> bytes:
        if self.parts:
            return self.parts.pop(0)
        return await self.rest.read() if self.rest is not None else b""

    def close(self) -> None:
        if self.rest is not None:
            self.rest.close()


@dataclass(slots=True)
class Failure:
    """The outcome of an attempt that another attempt may improve.

    Attributes:
        error: for the caller if no other attempt succeeds, unless the caller gets the provider's own `answer`.
        refused: the provider refuses our key or account.
        hopeless: the same target would fail again.
        unseen_tokens: the estimate of its output tokens, if it may have cost something; None: it cost nothing.
        unsure: the provider may still be working on it.
        wait: seconds to wait, if the provider names them.
    """

    attempt: Attempt
    error_type: str
    error: GatewayError | None = None
    answer: ReadAnswer | None = None
    reading: Reading = field(default_factory=Reading)
    refused: bool = False
    hopeless: bool = False
    unseen_tokens: int | None = None
    unsure: bool = False
    wait: float | None = None
