"""What each category of a call's tokens costs: the factors of a price, one by one. No I/O.

It follows `ModelPrice.cost` (usage/rates.py); a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache

from genai_prices import types

from usage.listings import change_moments
from usage.named_models import catalogue
from usage.rates import BATCH, FAST, RESIDENCY, ModelPrice, Rates
from usage.tokens import TokenCounts

TOKENS = {
    "input": "input_tokens",
    "cache_write_5m": "cache_creation_5m_input_tokens",
    "cache_write_1h": "cache_creation_1h_input_tokens",
    "cache_read": "cache_read_input_tokens",
    "output": "output_tokens",
}
SEARCH, REQUEST = "web_search", "request"
# In the order of lines.
CATEGORIES = (*TOKENS, SEARCH, REQUEST)
UNIT_OF_TOKENS, UNIT_OF_REQUESTS = "1M tokens", "request"

# Kind of line, category, quantity, price and list price.
Split = tuple[str, str, int, Decimal, Decimal | None]


@dataclass(frozen=True, slots=True)
class Mode:
    """What a price depends on: the length of the prompt in tokens, and what the answer named."""

    length: int = 0
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""


def rates_of(price: ModelPrice, mode: Mode) -> Rates:
    """USD per million tokens of each category in a mode."""
    batch = mode.service_tier == "batch" and not price.tier_rates
    rates = price.for_tier(mode.service_tier).at(mode.length)
    if mode.speed == "fast" and not batch:
        rates = price.fast or rates.times(FAST)
    if batch:
        rates = rates.times(BATCH)
    if price.residency and mode.inference_geo == "us":
        rates = rates.times(RESIDENCY)
    return rates


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """What an owner pays, and the list price; None where the list has no such model."""

    owed: ModelPrice
    listed: ModelPrice | None

    def split(self, counts: TokenCounts, mode: Mode, billed: int) -> Iterator[Split]:
        """The categories that calls used.

        Args:
            billed: how many requests pay a flat price.
        """
        owed = rates_of(self.owed, mode)
        listed = rates_of(self.listed, mode) if self.listed else None
        for category, column in TOKENS.items():
            if quantity := getattr(counts, column):
                list_price = getattr(listed, category) if listed else None
                yield "tokens", category, quantity, getattr(owed, category), list_price
        if counts.web_search_requests:
            list_price = self.listed.web_search if self.listed else None
            yield "web_search", SEARCH, counts.web_search_requests, self.owed.web_search, list_price
        if billed and self.owed.flat:
            yield "flat", REQUEST, billed, self.owed.flat, self.listed.flat if self.listed else None

    def net(self, counts: TokenCounts, mode: Mode, billed: int) -> Decimal:
        """What calls cost their owner, in USD."""
        return sum(
            (
                (price * quantity).scaleb(-6 if kind == "tokens" else 0)
                for kind, _, quantity, price, _ in self.split(counts, mode, billed)
            ),
            Decimal(0),
        )


@cache
def price_lengths() -> tuple[int, ...]:
    """All lengths of prompts above which the price of some model changes, in tokens."""
    found = set[int]()
    for provider in catalogue().values():
        for model in provider.models:
            dated = model.prices if isinstance(model.prices, list) else [model.prices]
            for each in dated:
                price = each.prices if isinstance(each, types.ConditionalPrice) else each
                found |= {tier.start for value in vars(price).values() for tier in getattr(value, "tiers", ())}
            for variant in model.price_variants or ():
                price = variant.prices
                found |= {tier.start for value in vars(price).values() for tier in getattr(value, "tiers", ())}
    return tuple(sorted(found))


def list_changes(since: datetime, until: datetime) -> list[datetime]:
    """When the list price of some model changes within a time. Of prices by the time of day, only the first days."""
    found = {
        moment
        for provider in catalogue().values()
        for model in provider.models
        for moment in change_moments(model, since)
        if since < moment < until
    }
    return sorted(found)
