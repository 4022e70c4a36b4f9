"""Computes the hold of a call before it is made: the most that it may cost, and the most tokens that it may use."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from keys import provider_kinds
from messages_api.process.prices import Prices
from messages_api.relay.call import Call
from messages_api.request import estimates
from usage.arbitration import Admission, ModelShare
from usage.pricing import ModelPrice, current_models


@dataclass(frozen=True, slots=True)
class CallHold:
    """The hold of a call: the most USD; the likely tokens and USD of its input; the most output tokens.

    Attributes:
        price: of the model whose price the hold uses.
        expires_seconds: how long the hold lasts, if no process waits for the call.
        input_ceiling: the most tokens besides `max_tokens`, for budgets of tokens.
        shares: by model, if there are several.
    """

    price: ModelPrice
    ceiling: Decimal
    input_tokens: int
    input_cost: Decimal
    max_tokens: int
    expires_seconds: int | None = None
    input_ceiling: int = 0
    shares: dict[str, ModelShare] | None = None


def reckon(call: Call) -> CallHold:
    """The hold of a call, computed from its request.

    Raises:
        GatewayError: as `Prices.now`.
    """
    estimate, most, price = call.estimate, call.request.max_tokens, call.price
    if call.free:
        return CallHold(price, Decimal(0), 0, Decimal(0), 0)
    extras, prices, provider_key = call.request.extras, call.surroundings.prices, call.provider_key
    others = other_prices(prices, provider_key.provider, extras, provider_key.region)
    # The journey's models include the call's own, whose price is known.
    others += [other for model in call.journey.models() if (other := prices.now(*model)) is not price]
    allowances = call.surroundings.allowances
    ceiling = estimate.ceiling_cost(most, price, *others, allowances=allowances, extras=extras)
    prompt = estimate.prompt(most, extras, allowances)
    return CallHold(
        price,
        ceiling,
        estimate.likely,
        estimate.likely_cost(price),
        most,
        input_ceiling=prompt.tokens + prompt.besides,
    )


def other_prices(prices: Prices, provider: str, extras: estimates.Extras, region: str = "") -> list[ModelPrice]:
    """The prices of the models that a request may mean besides its own.

    Raises:
        GatewayError: as `Prices.now`.
    """
    if extras is estimates.NO_EXTRAS:
        return []
    sold_as = provider_kinds.find(provider).sold_as
    return [prices.now(provider, sold_as(region, "", model)) for model in meant_besides(extras)]


def meant_besides(extras: estimates.Extras) -> tuple[str, ...]:
    """The models that a request may mean besides its own, if they have a price."""
    return (*extras.models, *(current_models() if extras.default_fallbacks else ()))


def admission(call: Call, held: CallHold, labels: dict[str, str]) -> Admission:
    """The question to the arbiter about a call."""
    call.ceiling, call.most_tokens = held.ceiling, held.input_ceiling + held.max_tokens
    price, provider_key = call.price, call.provider_key
    return Admission(
        id=call.id,
        credential=call.key.credential,
        revision=call.key.revision,
        catalogue_revision=call.key.catalogue_revision,
        hold=not call.free,
        endpoint=call.endpoint.name,
        requested_model=call.request.model,
        stream=call.request.stream,
        provider=provider_key.provider,
        provider_key=provider_key.id,
        insists=call.journey.insists,
        ceiling=held.ceiling,
        input_tokens=held.input_tokens,
        input_cost=held.input_cost,
        input_ceiling=held.input_ceiling,
        max_tokens=held.max_tokens,
        output_price=price.output,
        price_version=price.version,
        client_labels=labels,
        expires_seconds=held.expires_seconds,
        shares=held.shares or by_its_names(call, held),
    )


def by_its_names(call: Call, held: CallHold) -> dict[str, ModelShare] | None:
    """A share with the whole hold, for budgets and limits by model: it has the model's name at the target, the
    requested name, and the further models that the request may mean. None if that is only the requested name.
    """
    others = dict.fromkeys((call.target.asked or call.request.model, *meant_besides(call.request.extras)))
    others.pop(call.model, None)
    if call.model == call.request.model and not others:
        return None
    return {call.model: ModelShare(held.ceiling, held.input_ceiling + held.max_tokens, list(others))}
