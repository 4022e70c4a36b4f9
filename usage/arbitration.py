"""What the arbiter is asked, and what it says (usage/sql/arbiter.sql): before a call, and after it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


class Overloaded(Exception):
    """More calls wait for the arbiter than the deployment allows."""


class ArbiterAway(Exception):
    """The arbiter could not answer in time: nothing was admitted, nothing may be sent."""


class Verdict(str):
    """The arbiter's word on an admission: `admitted`, or why not (usage/sql/arbiter.sql).

    `details`: for `budget` and `limit`, what refused and how much is left of it; for `admitted`, a list of how the
    limits stand that apply to the call, with a `budget` where one is nearly empty until the call is settled. Amounts
    are strings, moments ISO 8601.
    """

    __slots__ = ("details",)
    details: Any

    def __new__(cls, word: str, details: str | None = None) -> Verdict:
        verdict = super().__new__(cls, word)
        verdict.details = None if details is None else msgspec.json.decode(details)
        return verdict


class Share(msgspec.Struct):
    """What one model of a call may cost: USD, and tokens that are read and written. `also` are other names of it, and
    models that may be run besides: budgets and limits of these apply to the whole of it."""

    ceiling: Decimal = Decimal(0)
    tokens: int = 0
    also: list[str] = []


class Admission(msgspec.Struct):
    """What the arbiter is asked before a call: who calls, and what to hold. Money in USD.

    `input_tokens`: likely ones; `input_ceiling`: at most, what budgets of tokens hold besides `max_tokens`.
    `expires_seconds`: the hold outlives this process, for so long.
    `shares`: by model, where the call is of several (`requested_model` is empty); their sums are the call's.
    `insists`: it goes to that provider key although it cools down (keys/cooldowns.py).
    A call that can cost nothing (`ceiling` and `max_tokens` are 0) is free: no budget or limit applies to it.
    """

    id: UUID
    credential: int
    revision: int
    catalogue_revision: int
    hold: bool
    endpoint: str
    requested_model: str
    stream: bool
    provider: str
    provider_key: int | None
    ceiling: Decimal
    input_tokens: int
    input_cost: Decimal
    max_tokens: int
    output_price: Decimal
    price_version: str
    client_labels: dict[str, str]
    expires_seconds: int | None = None
    input_ceiling: int = 0
    shares: dict[str, Share] | None = None
    insists: bool = False


class Settlement(msgspec.Struct):
    """What a call came to; the fields are the ledger row's. Money in USD."""

    id: UUID
    model: str
    provider: str
    provider_key_id: int | None
    provider_request_id: str
    status: str
    http_status: int | None
    error_type: str
    stop_reason: str
    input_tokens: int
    output_tokens: int
    thinking_tokens: int
    cache_read_input_tokens: int
    cache_creation_5m_input_tokens: int
    cache_creation_1h_input_tokens: int
    web_search_requests: int
    iterations: list[dict[str, Any]]
    service_tier: str
    speed: str
    inference_geo: str
    cost: Decimal
    currency: str
    price_version: str
    price_flag: str
    estimated: bool
    time_to_first_byte_ms: int | None
    duration_ms: int
    attempts: list[dict[str, Any]]


class Passed(msgspec.Struct):
    """An admission of a call that was let through while nobody could be asked, as the spool has it."""

    passed: Admission
    admitted_at: datetime

    def asked(self) -> dict[str, Any]:
        """What usage_admit_late is asked."""
        return msgspec.structs.asdict(self.passed) | {"admitted_at": self.admitted_at}


def clean(text: str, length: int = 200) -> str:
    """A string from outside as PostgreSQL takes it: no null bytes or lone surrogates, capped."""
    return text[:length].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
