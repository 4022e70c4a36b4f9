"""What the arbiter is asked before and after a call, and what it answers (usage/arbiter/)."""

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
    """The arbiter's word on an admission: `admitted`, or why not (usage/arbiter/admissions.sql).

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


# The fields of these structs are columns: the arbiter's SQL gets its lists of columns from them (usage/functions.py).
# A new column is a line here and a line in a migration.


class Held(msgspec.Struct, kw_only=True):
    """The columns of a hold that the asking process fills in. Money in USD.

    `input_tokens`: likely ones.
    `shares`: by model, for a call of several models (`requested_model` is empty then); their sums are the call's.
    """

    id: UUID
    credential: int
    endpoint: str = ""
    requested_model: str = ""
    stream: bool = False
    provider: str = ""
    provider_key: int | None = None
    ceiling: Decimal = Decimal(0)
    input_tokens: int = 0
    input_cost: Decimal = Decimal(0)
    max_tokens: int = 0
    output_price: Decimal = Decimal(0)
    price_version: str = ""
    client_labels: dict[str, str] = {}
    shares: dict[str, Share] | None = None


class Admission(Held, kw_only=True):
    """What the arbiter is asked before a call: who calls, and what to hold.

    `revision`, `catalogue_revision`: of the key and the catalogue, as the process knows them.
    `hold`: False asks about the key alone.
    `expires_seconds`: the hold outlives this process, by this long at most.
    `input_ceiling`: tokens at most; budgets of tokens hold them besides `max_tokens`.
    `insists`: the call goes to that provider key although it cools down (keys/cooldowns.py).
    A call that can cost nothing (`ceiling` and `max_tokens` are 0) is free: no budget or limit applies to it.
    """

    revision: int
    catalogue_revision: int
    hold: bool = False
    expires_seconds: int | None = None
    input_ceiling: int = 0
    insists: bool = False


class Tokens(msgspec.Struct, kw_only=True):
    """What providers bill for, and what it costs in USD; thinking is a part of output."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0
    cost: Decimal = Decimal(0)


class Settlement(Tokens, kw_only=True):
    """How a call ended: the columns of its ledger row that don't come from its hold."""

    id: UUID
    model: str = ""
    provider: str = ""
    provider_key_id: int | None = None
    provider_request_id: str = ""
    status: str
    http_status: int | None = None
    error_type: str = ""
    stop_reason: str = ""
    iterations: list[dict[str, Any]] = []
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""
    currency: str = "USD"
    price_version: str = ""
    price_flag: str = ""
    estimated: bool = False
    time_to_first_byte_ms: int | None = None
    duration_ms: int = 0
    attempts: list[dict[str, Any]] = []


class Passed(msgspec.Struct):
    """An admission of a call that was let through while the database was away, as the spool has it."""

    passed: Admission
    admitted_at: datetime

    def asked(self) -> dict[str, Any]:
        """What usage_admit_late is asked."""
        return msgspec.structs.asdict(self.passed) | {"admitted_at": self.admitted_at}


def clean(text: str, length: int = 200) -> str:
    """A string from outside as PostgreSQL takes it: no null bytes or lone surrogates, capped."""
    return text[:length].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
