"""The `genai-prices` catalogue: which of its entries a model has, and what that entry says at a time. No I/O.

Prices are USD per million tokens. The catalogue is as new as the installed package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version as package_version

from genai_prices import types

from keys import model_names, provider_kinds
from usage.named_models import SUFFIX, catalogue, names, within
from usage.rates import RATES, STANDARD_TIERS, ModelPrice, Rates

CACHE_WRITE_5M = Decimal("1.25")
CACHE_WRITE_1H = Decimal(2)
WEB_SEARCH = Decimal("0.01")

# Models that the catalogue lacks, each with the model that has the same price.
SAME_PRICE = {"claude-mythos-5": "claude-fable-5", "claude-mythos-5-1": "claude-fable-5-1"}

# Models whose context window is larger than in the catalogue if a request has a beta header:
# https://docs.claude.com/en/docs/build-with-claude/context-windows
LONG, LONG_WINDOW = re.compile(r"claude-sonnet-4|claude-4(?:[-.]5)?-sonnet"), 1_000_000

# Models that search with every request, by their names, and USD for a request where the list has no fee: their usage
# doesn't count searches. OpenAI charges 25 USD for a thousand searches of GPT-4o (OpenRouter: 35), 10 of later models.
# Perplexity charges up to 14 for a thousand requests. Deep research reads and thinks for a dollar or more besides.
# https://openai.com/api/pricing, https://openrouter.ai/openai/gpt-4o-search-preview,
# https://docs.perplexity.ai/getting-started/pricing (November 2026)
SEARCHING = (
    (re.compile(r"deep-research"), Decimal(2)),
    (re.compile(r"gpt-4[a-z0-9.-]*-search"), Decimal("0.035")),
    (re.compile(r"(?:^|/)sonar(?![a-z])|-search-(?:api|preview)"), Decimal("0.014")),
    # Groq's, with up to ten tools a request, of which the dearest costs 8 USD for a thousand uses.
    # https://console.groq.com/docs/compound/systems (November 2026)
    (re.compile(r"(?:^|/)compound(?:-beta)?(?:-mini)?$"), Decimal("0.08")),
)

CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
# From this version on, a request can choose where inference happens, and Anthropic picks fallback models.
NEWEST_GENERATIONS = (4, 6)
# Claude 4.5 and later cost a tenth more if a cloud keeps inference within a region.
REGIONAL = Decimal("1.1")
REGIONAL_GENERATIONS = (4, 5)


@dataclass(frozen=True, slots=True)
class Listing:
    """A model's entry in the catalogue.

    Attributes:
        similar: the entry is of another model with a similar name.
        raised: the entry's price holds for any region, and is raised for inference within one.
    """

    provider: str
    model: types.ModelInfo
    similar: bool
    raised: bool = False

    def price(self, provider: str, model: str, at: datetime) -> ModelPrice | None:
        """The price at this time. None if the entry has no price: an unknown price is never taken for free."""
        standard = self.model.get_prices(at)
        base = rates_of(standard, lambda price: price.base)
        if base is None or not (base.input or base.output):
            return None
        searches = standard.web_searches_kcount
        factor = REGIONAL if self.raised else Decimal(1)
        base = base.times(factor)
        version = f"genai-prices {catalogue_version()}: {self.provider}/{self.model.id}"
        if self.raised:
            version += " +10 %"
        price = ModelPrice(
            base.input,
            base.output,
            base.cache_read,
            base.cache_write_5m,
            base.cache_write_1h,
            web_search=searches.scaleb(-3) if isinstance(searches, Decimal) else WEB_SEARCH,
            version=version[:100],
            flag="similar" if self.similar else "",
            tiers=tuple((start, rates.times(factor)) for start, rates in tiers_of(standard)),
            fast=fast.times(factor) if (fast := self.fast_rates(at)) else None,
            residency=has_residency(provider, model),
            tier_rates=provider_kinds.find(provider).tier_rates,
            window=0 if self.similar else window_of(self.model),
            flat=self.fee(standard, model),
            # Claude writes to a cache only what a request marks.
            writes=base.cache_write_5m > base.input
            and standard.cache_write_mtok is not None
            and not CLAUDE_VERSION.search(model_names.identity(self.model.id)),
        )
        return replace(price, served=tuple(self.served(at, price))) if price.tier_rates else price

    def fee(self, price: types.ModelPrice, called: str) -> Decimal:
        """USD for each request besides its tokens: what the catalogue says, or that of the model as it is called, which
        may be a name of its own in this entry (`gpt-4o-mini-search-preview` in gpt-4o-mini's)."""
        if isinstance(price.requests_kcount, Decimal):
            return price.requests_kcount.scaleb(-3)
        return fee_of(self.model.id) or fee_of(called)

    def served(self, at: datetime, price: ModelPrice) -> Iterator[tuple[str, ModelPrice]]:
        """The prices of service tiers that the catalogue has for this time; batches are such a tier."""
        for variant in self.model.price_variants or ():
            tier = variant.when.get("service_tier") or ("batch" if variant.when == {"processing": "batch"} else "")
            if len(variant.when) != 1 or tier in STANDARD_TIERS:
                continue
            if variant.constraint is not None and not variant.constraint.active(at):
                continue
            listed = self.model.get_prices(at, dict(variant.when))
            if (base := rates_of(listed, lambda price: price.base)) is not None:
                rates = {name: getattr(base, name) for name in RATES}
                version = f"{price.version}, {tier}"[:100]
                yield tier, replace(price, **rates, tiers=tuple(tiers_of(listed)), version=version)

    def fast_rates(self, at: datetime) -> Rates | None:
        """The rates of fast mode, if the catalogue has them."""
        if not any(variant.when == {"speed": "fast"} for variant in self.model.price_variants or ()):
            return None
        return rates_of(self.model.get_prices(at, {"speed": "fast"}), lambda price: price.base)


def window_of(model: types.ModelInfo) -> int:
    """The model's largest context window in tokens, with any beta header; 0 if the catalogue doesn't say."""
    return LONG_WINDOW if LONG.search(model.id) else model.context_window or 0


def fee_of(name: str) -> Decimal:
    """USD for each request besides its tokens, by the model's name: that of models that always search."""
    name = model_names.fold(name)
    return next((usd for named, usd in SEARCHING if named.search(name)), Decimal(0))


@cache
def catalogue_version() -> str:
    return package_version("genai-prices")


def find_listing(provider: str, model: str) -> Listing | None:
    """The catalogue's entry for a model: the one that names it, else the nearest that matches."""
    kind = provider_kinds.find(provider)
    name, plain, in_region = kind.listed(model)
    undated = SUFFIX.sub("", plain)
    plain = SAME_PRICE.get(undated, plain)
    found = [
        listing
        for group, guess in ((kind.price_lists, False), (kind.guesses, True))
        for source in group
        for called in ((plain, undated) if source == "anthropic" else (name,))
        if (listing := look_up(source, called, guess))
    ]
    nearest = min(found, key=lambda listing: listing.similar, default=None)
    raised = in_region and generation(name) >= REGIONAL_GENERATIONS
    if nearest and raised and nearest.provider not in kind.regional_lists:
        return replace(nearest, raised=True)
    return nearest


def is_listed(provider: str, model: str, listing: Listing) -> bool:
    """Whether the entry names the model, with or without a date; it may be another provider's."""
    name, plain, _ = provider_kinds.find(provider).listed(model)
    return any(names(listing.model, each) for each in (name, plain))


def contained(provider: str, model: str, nearest: Listing | None) -> Iterator[Listing]:
    """The catalogue's models whose names are a part of this one: the model may be one of them."""
    kind = provider_kinds.find(provider)
    name, _, _ = kind.listed(model)
    for source, entry in within((*kind.price_lists, *kind.guesses), name):
        yield Listing(source, entry, similar=True, raised=nearest is not None and nearest.raised)


def look_up(source: str, model: str, guess: bool) -> Listing | None:
    """The matching entry of one price list, if there is one."""
    entry = catalogue()[source].find_model(model)
    return Listing(source, entry, guess or not names(entry, model)) if entry else None


def rates_of(price: types.ModelPrice, pick: Callable[[types.TieredPrices], Decimal]) -> Rates | None:
    """Rates from the catalogue's price; None if it lacks input or output. Missing cache writes get their usual multiple
    of the input price; missing cache reads cost the same as input."""

    def rate(value: Decimal | types.TieredPrices | None) -> Decimal | None:
        return pick(value) if isinstance(value, types.TieredPrices) else value

    read, output = rate(price.input_mtok), rate(price.output_mtok)
    if read is None or output is None:
        return None
    # Reports don't say how much of the output is pictures or thinking: all of it counts as the dearest.
    dearer = (price.output_image_mtok, price.output_video_mtok, price.output_reasoning_mtok)
    output = max(output, *(rate(each) or output for each in dearer))
    cached, write, longer = rate(price.cache_read_mtok), rate(price.cache_write_mtok), rate(price.cache_write_1h_mtok)
    return Rates(
        input=read,
        output=output,
        cache_read=read if cached is None else cached,
        cache_write_5m=read * CACHE_WRITE_5M if write is None else write,
        cache_write_1h=read * CACHE_WRITE_1H if longer is None else longer,
    )


def tiers_of(price: types.ModelPrice) -> Iterator[tuple[int, Rates]]:
    """Each prompt length above which the price of any category changes, with the rates above it."""
    tiered = [value for value in vars(price).values() if isinstance(value, types.TieredPrices)]
    for start in sorted({tier.start for value in tiered for tier in value.tiers}):

        def above(value: types.TieredPrices, start: int = start) -> Decimal:
            return next((tier.price for tier in reversed(value.tiers) if start >= tier.start), value.base)

        rates = rates_of(price, above)
        if rates is not None:
            yield start, rates


def change_moments(model: types.ModelInfo, at: datetime) -> list[datetime]:
    """When the model's price changes: all start dates, and daily changes within two days of `at`."""
    today = at.astimezone(UTC).date()
    parts: list[types.ConditionalPrice | types.PriceVariant] = list(model.price_variants or ())
    parts += model.prices if isinstance(model.prices, list) else []
    moments: list[datetime] = []
    for part in parts:
        if isinstance(part.constraint, types.StartDateConstraint):
            moments.append(datetime.combine(part.constraint.start_date, time(), UTC))
        elif part.constraint is not None:
            edges = (part.constraint.start_time, part.constraint.end_time)
            moments += [
                datetime.combine(today + timedelta(days=days), edge, edge.tzinfo or UTC)
                for days in (-2, -1, 0, 1, 2)
                for edge in edges
            ]
    return moments


@cache
def current_models() -> tuple[str, ...]:
    """Anthropic's newest models, Claude 4.6 and later: Anthropic may choose any of them if a request leaves the choice
    to it."""
    listed = [model.id for model in catalogue()["anthropic"].models]
    return tuple(name for name in (*listed, *SAME_PRICE) if is_current(name))


def is_current(model: str) -> bool:
    """Whether the model is Claude 4.6 or later."""
    return generation(model_names.identity(model)) >= NEWEST_GENERATIONS


def generation(model: str) -> tuple[int, int]:
    """A Claude model's version: (4, 6) for `claude-opus-4-6`; (0, 0) for other models."""
    version = CLAUDE_VERSION.search(model_names.fold(model))
    return (int(version[1]), int(version[2] or 0)) if version else (0, 0)


def has_residency(provider: str, model: str) -> bool:
    """Whether keeping inference in the US costs extra: Claude 4.6 and later, from Anthropic."""
    return provider_kinds.find(provider).keeps_residency and generation(model) >= NEWEST_GENERATIONS
