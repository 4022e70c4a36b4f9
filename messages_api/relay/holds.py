"""Computes the hold of a call before it is made: the most that it may cost, and the most tokens that it may use."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from keys import provider_kinds
from keys.model_names import is_fast, without_fast
from messages_api.process.prices import Prices
from messages_api.relay.call import Call
from messages_api.relay.journey import Journey
from messages_api.request import estimates
from usage.arbitration import Admission, ModelShare
from usage.pricing import ModelPrice, Payer, current_models
from usage.splits import PLACES


class CallHold(msgspec.Struct, frozen=True):
    """The hold of a call: the most USD for its owner; the likely tokens and USD of its input; the most output tokens.

    Attributes:
        price: of the model whose price the hold uses.
        expires_seconds: how long the hold lasts, if no process waits for the call.
        input_ceiling: the most tokens besides `max_tokens`, for budgets of tokens.
        shares: by model, if there are several.
        cost_factor: the part of the ceiling that the provider charges; None: all of it.
    """

    price: ModelPrice
    ceiling: Decimal
    input_tokens: int
    input_cost: Decimal
    max_tokens: int
    expires_seconds: int | None = None
    input_ceiling: int = 0
    shares: dict[str, ModelShare] | None = None
    cost_factor: Decimal | None = None


def reckon(call: Call) -> CallHold:
    """The hold of a call, computed from its request.

    Raises:
        GatewayError: as `Prices.now`.
    """
    estimate, most, price = call.estimate, call.request.max_tokens, call.price
    if call.free:
        return CallHold(price, Decimal(0), 0, Decimal(0), 0)
    extras, prices, provider_key = call.request.extras, call.surroundings.prices, call.provider_key
    others = other_prices(prices, provider_key.provider, extras, call.key, provider_key.region)
    # The journey's models include the call's own, whose price is known.
    if len(call.journey.models) > 1:
        others += [other for model in call.journey.models if (other := prices.now(*model, call.key)) is not price]
    allowances = call.surroundings.allowances
    ceiling = estimate.ceiling_cost(most, price, *others, allowances=allowances, extras=extras)
    factor = None
    if prices.owners_differ:
        costs = (each.to_us() for each in (price, *others))
        factor = part(estimate.ceiling_cost(most, *costs, allowances=allowances, extras=extras), ceiling)
    prompt = estimate.prompt(most, extras, allowances)
    return CallHold(
        price,
        ceiling,
        estimate.likely,
        estimate.likely_cost(price),
        most,
        input_ceiling=prompt.tokens + prompt.besides,
        cost_factor=factor,
    )


def part(cost: Decimal, ceiling: Decimal) -> Decimal | None:
    """The part of a ceiling that the provider charges; None: all of it."""
    return None if cost == ceiling or not ceiling else (cost / ceiling).quantize(PLACES)


def other_prices(
    prices: Prices, provider: str, extras: estimates.Extras, owner: Payer, region: str = ""
) -> list[ModelPrice]:
    """The prices of the models that a request of this owner may mean besides its own.

    Raises:
        GatewayError: as `Prices.now`.
    """
    if extras is estimates.NO_EXTRAS:
        return []
    sold_as = provider_kinds.find(provider).sold_as
    return [prices.now(provider, sold_as(region, "", model), owner) for model in meant_besides(extras)]


def models_of(journey: Journey, extras: estimates.Extras) -> set[tuple[str, str]]:
    """The models of which a call needs prices, each with its provider."""
    models = journey.models
    if extras is not estimates.NO_EXTRAS:
        targets = {target.provider_key.provider: target for stage in journey.plan for target in stage}
        models = models | {
            (provider, target.provider_key.kind.sold_as(target.provider_key.region, "", model))
            for provider, target in targets.items()
            for model in meant_besides(extras)
        }
    return models


def meant_besides(extras: estimates.Extras) -> tuple[str, ...]:
    """The models that a request may mean besides its own, if they have a price."""
    return (*extras.models, *(current_models() if extras.default_fallbacks else ()))


def admission(call: Call, held: CallHold, labels: dict[str, str]) -> Admission:
    """The question to the arbiter about a call."""
    call.ceiling, call.most_tokens = held.ceiling, held.input_ceiling + held.max_tokens
    call.cost_factor = held.cost_factor
    price, provider_key = call.price, call.provider_key
    # The arbiter knows a free call by these two: without a price and without output, another one would be taken for it.
    nothing = not call.free and not held.ceiling and not held.max_tokens
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
        max_tokens=1 if nothing else held.max_tokens,
        output_price=(price.charged or price).output,
        cost_factor=held.cost_factor,
        price_version=(price.charged or price).version,
        client_labels=labels,
        expires_seconds=held.expires_seconds,
        shares=held.shares or by_its_names(call, held),
    )


def by_its_names(call: Call, held: CallHold) -> dict[str, ModelShare] | None:
    """As `shares_of`, for the names of a call's model and of the further models that the request may mean."""
    target, extras = call.target, call.request.extras
    usual = extras is estimates.NO_EXTRAS and target.model == call.request.model == (target.asked or target.model)
    if usual and not is_fast(target.model):
        return None
    others = [target.asked or call.request.model, *meant_besides(extras)]
    if is_fast(call.model):
        others.append(without_fast(call.model))
    return shares_of(call.model, call.request.model, others, held)


def shares_of(model: str, requested: str, others: Iterable[str], held: CallHold) -> dict[str, ModelShare] | None:
    """A share with the whole hold, for budgets and limits by model: it has the model's name at the target, and all
    other names. None if that is only the requested name.
    """
    besides = dict.fromkeys(others)
    besides.pop(model, None)
    if model == requested and not besides:
        return None
    return {model: ModelShare(held.ceiling, held.input_ceiling + held.max_tokens, list(besides))}
