"""What the demo's models cost by usage/pricing.py, as rows with which the database reckons to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usage import pricing
from usage.demo.models_used import MODELS, DemoModel
from usage.price_rows import NO_ROWS
from usage.rates import BATCH, FAST, RATES, RESIDENCY, ModelPrice, Rates

# Tiers that the demo's calls have, by what reports them.
TIERS = {"anthropic": ("standard", "batch"), "openai": ("default", "flex", "priority")}
# Larger than any prompt.
ENDLESS = 10**12


@dataclass(frozen=True, slots=True)
class Variant:
    """What a price depends on besides the model, the time and the length of the prompt."""

    service_tier: str
    speed: str = ""
    inference_geo: str = ""


def variants(model: DemoModel) -> Iterator[Variant]:
    """The variants of a model's calls."""
    for tier in TIERS[model.provider]:
        yield Variant(tier)
        if model.provider == "anthropic":
            yield Variant(tier, "", "us")
            if tier != "batch":
                yield Variant(tier, "fast")
                yield Variant(tier, "fast", "us")


def periods(book: pricing.PriceBook, model: DemoModel, since: datetime, until: datetime) -> Iterator[Any]:
    """The prices of a model in a range, with the beginning and the end of each within it.

    Raises:
        UnpricedModel: the deployment refuses calls of the model.
    """
    at = since
    while at < until:
        price = book.price(model.provider, model.name, at)
        end = min(until, book.known[model.provider, model.name, NO_ROWS][1])
        yield at, end, price
        at = end


def factored(price: ModelPrice, variant: Variant) -> tuple[ModelPrice, list[tuple[int, Rates]]]:
    """The price of a variant, and its rates by the length of prompts: each from above a number of tokens on. It follows
    `ModelPrice.cost`."""
    tiered = price.for_tier(variant.service_tier) if price.tier_rates else price
    batch = not price.tier_rates and variant.service_tier == "batch"
    factor = BATCH if batch else Decimal(1)
    if price.residency and variant.inference_geo == "us":
        factor *= RESIDENCY
    bands: list[tuple[int, Rates]] = [(-1, tiered.at(0)), *((start, rates) for start, rates in tiered.tiers)]
    if variant.speed == "fast" and not batch:
        bands = [(start, price.fast or rates.times(FAST)) for start, rates in bands]
    return tiered, [(start, rates.times(factor)) for start, rates in bands]


def rows(book: pricing.PriceBook, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """The rows of the table `demo_rate` (usage/demo/calls.py); decimals are strings. Models that the deployment
    refuses, because they have no price, have no row."""
    for number, model in enumerate(MODELS):
        try:
            found = list(periods(book, model, since, until))
        except pricing.UnpricedModel:
            continue
        for begin, end, price in found:
            for variant in variants(model):
                tiered, bands = factored(price, variant)
                ends = [*(start for start, _ in bands[1:]), ENDLESS]
                for (above, rates), upto in zip(bands, ends, strict=True):
                    yield {
                        "model": number,
                        "service_tier": variant.service_tier,
                        "speed": variant.speed,
                        "inference_geo": variant.inference_geo,
                        "since": begin.isoformat(),
                        "until": end.isoformat(),
                        "above": above,
                        "upto": upto,
                        **{name: f"{getattr(rates, name):f}" for name in RATES},
                        "web_search": f"{price.web_search:f}",
                        "version": tiered.version,
                        "flag": tiered.flag,
                        "has_fast": price.fast is not None,
                        "has_region": price.residency,
                    }
