"""Questions to the arbiter before and after a call, and its answers (usage/arbiter/)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


class Overloaded(Exception):
    """More calls wait for the arbiter than the deployment allows."""


class ArbiterAway(Exception):
    """The arbiter did not answer in time: no call was admitted, and none may be sent."""


class Verdict(str):
    """The arbiter's verdict on an admission: `admitted`, or why not (usage/arbiter/admissions.sql).

    `details`: for `budget` and `limit`, the one that refused, with what is left of it; for `admitted`, a list with the
    state of each limit that applies to the call, and a `budget` entry if one is nearly empty until the call is settled.
    Amounts are strings, moments ISO 8601.
    """

    __slots__ = ("details",)
    details: Any

    def __new__(cls, word: str, details: str | bytes | None = None) -> Verdict:
        verdict = super().__new__(cls, word)
        verdict.details = None if details is None else msgspec.json.decode(details)
        return verdict


class ModelShare(msgspec.Struct):
    """The most that one model of a call may cost: USD, and tokens read and written. `also` has the model's other names,
    and further models that may run: budgets and limits of these count the whole share.
    """

    ceiling: Decimal = Decimal(0)
    tokens: int = 0
    also: list[str] = []


# The fields of these structs are columns: the arbiter's SQL gets its lists of columns from them (usage/functions.py).
# A new column is a line here and a line in a migration.


class HoldColumns(msgspec.Struct, kw_only=True):
    """The columns of a hold that the asking process fills in. Money in USD.

    `input_tokens`: likely ones. `ceiling`, `input_cost` and `output_price` are what the owner pays; `cost_factor`: the
    part of it that the provider charges, if it isn't all of it.
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
    cost_factor: Decimal | None = None
    price_version: str = ""
    client_labels: dict[str, str] = {}
    shares: dict[str, ModelShare] | None = None


class Admission(HoldColumns, kw_only=True):
    """The question to the arbiter before a call: who calls, and what to hold.

    `revision`, `catalogue_revision`: of the cached key and catalogue. `hold`: False asks about the key alone.
    `expires_seconds`: the hold outlives this process, by this long at most. `input_ceiling`: the most tokens of input;
    budgets of tokens hold them in addition to `max_tokens`. `insists`: the call goes to that provider key although it
    cools down (keys/cooldowns.py). A call that can cost nothing (`ceiling` and `max_tokens` are 0) is free: no budget
    or limit applies to it.
    """

    revision: int
    catalogue_revision: int
    hold: bool = False
    expires_seconds: int | None = None
    input_ceiling: int = 0
    insists: bool = False


class UsageColumns(msgspec.Struct, kw_only=True):
    """The quantities that providers bill, and their cost in USD; thinking is a part of output."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0
    cost: Decimal = Decimal(0)


class Settlement(UsageColumns, kw_only=True):
    """How a call ended: the columns of its ledger row that don't come from its hold.

    `cost` is what the provider charges, `charge` what the owner pays; None: the same. `cost_split`, `charge_split`:
    their parts by category (usage/splits.py); None: they aren't split, or the charge is the cost.
    """

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
    charge: Decimal | None = None
    cost_split: list[Decimal] | None = None
    charge_split: list[Decimal] | None = None
    currency: str = "USD"
    price_version: str = ""
    price_flag: str = ""
    estimated: bool = False
    time_to_first_byte_ms: int | None = None
    duration_ms: int = 0
    attempts: list[dict[str, Any]] = []


class Passed(msgspec.Struct):
    """The admission of a call that passed while the database was unavailable, in the form of the spool."""

    passed: Admission
    admitted_at: datetime

    def asked(self) -> dict[str, Any]:
        """The arguments of usage_admit_late."""
        return msgspec.structs.asdict(self.passed) | {"admitted_at": self.admitted_at}


def clean(text: str, length: int = 200) -> str:
    """A string from outside in a form that PostgreSQL accepts: without null bytes or lone surrogates, and capped."""
    return text[:length].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
