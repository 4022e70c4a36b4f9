"""What a call came to: the tokens that were read, or an estimate where nobody counted them, and their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from keys import provider_kinds
from messages_api.cache_writes import CacheWrites
from messages_api.metering import Iteration, Reading
from usage.price_flags import foremost
from usage.pricing import ModelPrice, UnpricedModel
from usage.tokens import TOKEN_COLUMNS, TokenCounts

# What the ledger's columns can hold; a provider that reports more is broken.
MOST_TOKENS = 2**62
MOST_COST = Decimal(10) ** 15

PriceOf = Callable[[str, str, datetime], ModelPrice]


def bill(
    steps: list[Iteration],
    reading: Reading,
    *,
    provider: str,
    model: str,
    at: datetime,
    asked: ModelPrice,
    prices: PriceOf,
    cache_writes: CacheWrites = "5m",
) -> dict[str, Any]:
    """The ledger's columns for token counts and money: the sums over all steps, each at its own model's price.

    Args:
        asked: the price of the model that the call was admitted for, for steps that nobody has a price of.
        cache_writes: what the request asked for.
    """
    total, cost, detail, flags, versions = TokenCounts(), Decimal(0), [], [], []
    for step in steps:
        try:
            price = prices(provider, step.model or model, at)
        except UnpricedModel:
            price = asked
        tier = price.for_tier(reading.service_tier)
        amount = price.cost(
            step.counts,
            speed=reading.speed,
            service_tier=reading.service_tier,
            inference_geo=reading.inference_geo,
            steps=step.steps,
        )
        if is_free(step.refusal, provider):
            amount = Decimal(0)
        total += step.counts
        cost += amount
        flags += flags_of(step, tier, provider, cache_writes)
        versions.append(tier.version)
        detail.append(
            {
                "type": step.kind,
                "model": step.model or model,
                **{name: getattr(step.counts, name) for name in TOKEN_COLUMNS},
                "cost": str(amount),
                "price_version": tier.version,
            }
        )
    columns: dict[str, Any] = {name: min(getattr(total, name), MOST_TOKENS) for name in TOKEN_COLUMNS}
    return columns | {
        "cost": min(cost, MOST_COST),
        "price_version": "; ".join(dict.fromkeys(versions)),
        "price_flag": foremost(flags),
        "iterations": detail if reading.usage.get("iterations") else [],
        "service_tier": reading.service_tier,
        "speed": reading.speed,
        "inference_geo": reading.inference_geo,
    }


def is_free(refusal: str | None, provider: str) -> bool:
    """Whether a refusal before any output costs nothing at this kind of provider.

    Args:
        refusal: its category; None: the answer was not refused.
    """
    billed = provider_kinds.find(provider).billed_refusals
    return refusal is not None and billed is not None and refusal not in billed


def flags_of(step: Iteration, price: ModelPrice, provider: str, cache_writes: CacheWrites) -> list[str]:
    """What there is to say of the cost of a step."""
    if is_free(step.refusal, provider):
        return ["refusal_not_billed"]
    billed = provider_kinds.find(provider).billed_refusals or {}
    assumed = cache_writes == "both" and step.unassigned_writes > 0
    return [price.flag, billed.get(step.refusal or "", ""), "cache_writes_as_1h" if assumed else ""]


def kept_for(cache_writes: CacheWrites, provider: str) -> CacheWrites:
    """For how long this kind of provider keeps what a request asks to be written to a cache."""
    return cache_writes if provider_kinds.find(provider).keeps_caches_as_asked else "5m"


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The columns of two attempts in one row: the sums of tokens and cost, and what else the later one says."""
    sums = {name: min(one[name] + other[name], MOST_TOKENS) for name in TOKEN_COLUMNS}
    versions = dict.fromkeys(each for of in (one, other) for each in of["price_version"].split("; ") if each)
    return {
        **other,
        **sums,
        "cost": min(one["cost"] + other["cost"], MOST_COST),
        "price_version": "; ".join(versions),
        "price_flag": foremost((one["price_flag"], other["price_flag"])),
    }


def at_least(steps: list[Iteration], *, input_tokens: int, output_tokens: int) -> list[Iteration]:
    """The steps of a call that nobody saw end, with the last one raised to what must have been used."""
    last = steps[-1]
    counts = last.counts
    if not counts.prompt_tokens:
        counts = replace(counts, input_tokens=input_tokens)
    counts = replace(counts, output_tokens=max(counts.output_tokens, output_tokens))
    return [*steps[:-1], replace(last, counts=counts)]
