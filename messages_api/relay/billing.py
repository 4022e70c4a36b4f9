"""What a call is billed: what the provider reports, or how many tokens and uses of tools are estimated.

answer/settlement.py turns these into steps and prices them; call.py settles the call by the result.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from keys.directory import KnownProviderKey
from keys.model_names import is_fast
from messages_api.answer import plausibility, settlement
from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.plausibility import Bounds, Implausible
from messages_api.answer.seen import Use
from messages_api.answer.settlement import Reckoning
from messages_api.process.allowances import Allowances
from messages_api.process.prices import Prices
from messages_api.relay.attempt import Attempt
from messages_api.relay.routing import Target
from messages_api.request.cache_writes import CacheWrites
from messages_api.request.estimates import Estimate
from messages_api.request.schema import MessagesRequest
from messages_api.server.handler import ApiRequest
from usage.pricing import ModelPrice, Payer, current_models
from usage.tokens import TOKENS_PER_SECOND

logger = logging.getLogger(__name__)


class Tariffs(Protocol):
    """What a process knows about prices and about the provider's own tools."""

    @property
    def prices(self) -> Prices: ...
    @property
    def allowances(self) -> Allowances: ...


class BilledCall(Protocol):
    """What the bill of a call depends on."""

    @property
    def surroundings(self) -> Tariffs: ...
    @property
    def id(self) -> UUID: ...
    @property
    def key(self) -> Payer: ...
    @property
    def free(self) -> bool: ...
    @property
    def request(self) -> MessagesRequest: ...
    @property
    def estimate(self) -> Estimate: ...
    @property
    def http_request(self) -> ApiRequest: ...
    @property
    def admitted_at(self) -> datetime: ...
    @property
    def ceiling(self) -> Decimal: ...
    @property
    def cost_factor(self) -> Decimal | None: ...
    @property
    def attempt(self) -> Attempt: ...
    @property
    def target(self) -> Target: ...
    @property
    def provider_key(self) -> KnownProviderKey: ...
    @property
    def model(self) -> str: ...
    @property
    def price(self) -> ModelPrice: ...


def bill(call: BilledCall, reading: Reading, *, free: bool, unseen_tokens: int | None) -> tuple[dict[str, Any], bool]:
    """Bill the current attempt of a call. Returns the ledger's columns, and whether they are an estimate.

    Args:
        free: the attempt cost nothing.
        unseen_tokens: the estimate of its output tokens, if its end was not seen; None: it was seen.
    """
    if free or call.free:
        reading.usage, reading.doubtful, unseen_tokens = {}, False, None
    elif unseen_tokens is not None and settlement.is_free(reading.refusal, call.provider_key.provider):
        # The end was seen, at least all of it that matters.
        unseen_tokens = None if reading.countable else 0
    try:
        columns = _columns(call, reading, unseen_tokens)
        return columns, unseen_tokens is not None or reading.doubtful
    except Implausible:
        reading.usage, reading.doubtful, reading.seen.reported = {}, True, 0
        seen = estimate_output(call.attempt, reading.seen.output_tokens, hidden=False)
        return _columns(call, reading, max(seen, unseen_tokens or 0)), True
    except Exception:
        # The call must be settled, even if the provider's report is nonsense.
        logger.exception("the usage of call %s can't be billed: it is estimated", call.id)
        reading.usage = {}
        return _columns(call, reading, unseen_tokens or 0), True


def estimate_output(attempt: Attempt, seen: int = 0, *, hidden: bool = True) -> int:
    """Estimate the output tokens of an attempt up to now.

    Args:
        seen: output tokens that passed.
        hidden: the model may have written output that the client did not get; it is estimated by time.
    """
    seconds = time.monotonic() - attempt.began if hidden else 0.0
    # The provider takes up to a second to cancel, and the model goes on meanwhile.
    return max(seen, round(seconds * TOKENS_PER_SECOND)) + TOKENS_PER_SECOND


def _columns(call: BilledCall, reading: Reading, unseen_tokens: int | None) -> dict[str, Any]:
    cache_writes = settlement.kept_for(call.request.cache_writes, call.provider_key.provider)
    reported = reading.iterations(cache_writes != "5m")
    bounds = plausibility.bounds(call.request, fast=is_fast(call.model))
    columns = _priced(call, reported, reading, cache_writes, bounds)
    if unseen_tokens is None:
        return columns
    least, least_owed = columns["cost"], settlement.owed(columns)
    reckoning = _reckoning(call, cache_writes)
    uses = _uses(call, reading, reckoning)
    columns = _priced(call, reckoning.steps(reported, unseen_tokens, uses), reading, cache_writes)
    if uses and settlement.owed(columns) > call.ceiling:
        # An estimate never exceeds the hold; reported usage may.
        most = max(call.ceiling, least_owed)
        settlement.without_split(columns)
        if columns["charge"] is None:
            columns["cost"] = most
        else:
            columns["charge"] = most
            columns["cost"] = max(least, min(columns["cost"], settlement.share(most, call.cost_factor)))
    return columns


def _priced(
    call: BilledCall,
    steps: list[Iteration],
    reading: Reading,
    cache_writes: CacheWrites,
    bounds: Bounds | None = None,
) -> dict[str, Any]:
    return settlement.bill(
        steps,
        reading,
        provider=call.provider_key.provider,
        model=reading.model or call.model,
        at=call.admitted_at,
        asked=call.price,
        prices=lambda provider, model, at: _price(call, provider, model, at),
        bounds=bounds,
        cache_writes=cache_writes,
    )


def _price(call: BilledCall, provider: str, model: str, at: datetime) -> ModelPrice:
    if not model:
        return call.price
    target = call.target
    sold = target.sold if model == target.model else target.sold_as(model)
    return call.surroundings.prices.price(provider, sold, at, call.key)


def _reckoning(call: BilledCall, cache_writes: CacheWrites) -> Reckoning:
    extras, provider = call.request.extras, call.provider_key.provider
    others = (*extras.models, *(current_models() if extras.default_fallbacks else ()))
    return Reckoning(
        call.estimate.likely,
        call.request.max_tokens,
        extras,
        call.surroundings.allowances,
        cache_writes if call.estimate.writes else None,
        max(others, key=lambda model: _price(call, provider, model, call.admitted_at).output, default=""),
    )


def _uses(call: BilledCall, reading: Reading, reckoning: Reckoning) -> list[Use]:
    """The uses of the provider's tools that no report counts, with those that an answer leaves out, and one for each
    second in which the gateway read nothing. An answer in one piece shows nothing before its end. Neither does a stream
    that hasn't begun, because it may still arrive in one piece. A client that doesn't wait for such an answer pays for
    all uses that may be under way; otherwise they are estimated by the time that the answer took.
    """
    if reading.begun:
        left = len(reckoning.unseen_uses()) - len(reading.seen.uses)
        unread = reckoning.unseen_uses()[: max(0, min(left, int(reading.unread)))]
        return [*reading.seen.unreported, *reckoning.excluded_uses(reading.seen.unreported), *unread]
    gone = call.http_request.client_gone
    return reckoning.unseen_uses(None if gone else time.monotonic() - call.attempt.began)
