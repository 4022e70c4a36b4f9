"""What a call costs: list prices of the `genai-prices` catalogue, overridden by the deployment's own prices.

Only `load_price_book` reads the database, and no function uses the network: the catalogue is as new as the installed
package. Prices are USD per million tokens; costs are USD, exact to twelve places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version as package_version
from typing import Any

from django.conf import settings
from genai_prices import types

from keys import model_names, patterns, provider_kinds
from usage.named_models import SUFFIX, catalogue, is_version, names, within
from usage.rates import BATCH, FAST, FREE, RATES, STANDARD_TIERS, ModelPrice, Rates

CACHE_WRITE_5M = Decimal("1.25")
CACHE_WRITE_1H = Decimal(2)
WEB_SEARCH = Decimal("0.01")

# Models that the catalogue lacks, each with the model that has the same price.
SAME_PRICE = {"claude-mythos-5": "claude-fable-5", "claude-mythos-5-1": "claude-fable-5-1"}

# Models whose context window is larger than in the catalogue if a request has a beta header:
# https://docs.claude.com/en/docs/build-with-claude/context-windows
LONG, LONG_WINDOW = re.compile(r"claude-sonnet-4|claude-4(?:[-.]5)?-sonnet"), 1_000_000

CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
# From this version on, a request can choose where inference happens, and Anthropic picks fallback models.
NEWEST_GENERATIONS = (4, 6)
# Claude 4.5 and later cost a tenth more if a cloud keeps inference within a region.
REGIONAL = Decimal("1.1")
REGIONAL_GENERATIONS = (4, 5)

# Other modules import these names from here.
__all__ = [
    "BATCH",
    "FREE",
    "STANDARD_TIERS",
    "ModelPrice",
    "PriceBook",
    "Rates",
    "UnpricedModel",
    "UnpricedPolicy",
    "catalogue",
]

# The columns of `usage.models.Price` that `build` reads, and a query for code that can't use the ORM.
PRICE_COLUMNS = (
    "id",
    "provider",
    "model",
    "valid_from",
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "web_search",
)
PRICES_SQL = f"SELECT {', '.join(PRICE_COLUMNS)} FROM usage_price"  # noqa: S608 - constants

BEGINNING = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)


class UnpricedModel(LookupError):
    """The model has no price, and the deployment refuses such models (`UNPRICED_MODELS=refuse`)."""


@dataclass(frozen=True, slots=True)
class UnpricedPolicy:
    """What happens to a call of a model without a price: it is refused, or priced at these high rates and flagged."""

    refuse: bool
    input: Decimal
    output: Decimal

    def price(self, provider: str, model: str) -> ModelPrice:
        """The deliberately high price.

        Raises:
            UnpricedModel: the policy is to refuse such calls.
        """
        if self.refuse:
            raise UnpricedModel(f"{model} has no price: an administrator can add one under Prices")
        return ModelPrice(
            input=self.input,
            output=self.output,
            cache_read=self.input,
            cache_write_5m=self.input * CACHE_WRITE_5M,
            cache_write_1h=self.input * CACHE_WRITE_1H,
            web_search=WEB_SEARCH,
            version=f"unpriced {self.input}/{self.output}",
            flag="unpriced",
            residency=has_residency(provider, model),
            tier_rates=provider_kinds.find(provider).tier_rates,
        )


def configured_policy() -> UnpricedPolicy:
    """The deployment's policy, from `UNPRICED_MODELS` and its prices."""
    configuration = settings.CONFIGURATION
    return UnpricedPolicy(
        configuration.unpriced_models == "refuse",
        configuration.unpriced_input_price,
        configuration.unpriced_output_price,
    )


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """An own price of the deployment: for one provider or any, a model's name or pattern, from a point in time on."""

    provider: str
    model: str
    valid_from: datetime
    rates: Rates
    web_search: Decimal
    version: str

    @property
    def rank(self) -> tuple[bool, bool, int, datetime]:
        """The highest rank wins: a name over a pattern, one provider over any, a longer pattern, a newer date."""
        return ("*" not in self.model, bool(self.provider), len(self.model.replace("*", "")), self.valid_from)

    def fits(self, provider: str, model: str) -> bool:
        """Whether the price applies to this model of this provider. A name's price is that of each date and spelling
        of the model, too, or a caller could choose one that costs less."""
        return self.provider in ("", provider) and (
            patterns.matches([self.model], model) or ("*" not in self.model and is_version(self.model, model))
        )


def read_overrides(rows: Iterable[Mapping[str, Any]]) -> tuple[OwnPrice, ...]:
    """Own prices from rows with `PRICE_COLUMNS`, highest rank first."""
    overrides = (
        OwnPrice(
            provider=row["provider"],
            model=row["model"],
            valid_from=row["valid_from"],
            rates=Rates(row["input"], row["output"], row["cache_read"], row["cache_write_5m"], row["cache_write_1h"]),
            web_search=row["web_search"],
            version=f"price {row['id']}",
        )
        for row in rows
    )
    return tuple(sorted(overrides, key=lambda override: override.rank, reverse=True))


class PriceBook:
    """A snapshot of all prices. A repeated look-up takes a microsecond."""

    CACHED = 4096

    def __init__(self, overrides: tuple[OwnPrice, ...], policy: UnpricedPolicy) -> None:
        self.overrides = overrides
        self.policy = policy
        # Each price with the period in which it applies: from one change of price to the next.
        self.known: dict[tuple[str, str], tuple[datetime, datetime, ModelPrice]] = {}

    def price(self, provider: str, model: str, at: datetime) -> ModelPrice:
        """What the model costs at this time (aware). An unknown price is never taken for free.

        Raises:
            UnpricedModel: the price is unknown, and the policy is to refuse.
        """
        known = self.known.get((provider, model))
        if known is not None and known[0] <= at < known[1]:
            return known[2]
        return self.learn(provider, model, at)

    def unpriced(self) -> ModelPrice:
        """The deliberately high price, for a call that has already run and so can't be refused."""
        return replace(self.policy, refuse=False).price("", "")

    def learn(self, provider: str, model: str, at: datetime) -> ModelPrice:
        """Look a price up, and cache it with the period in which it applies."""
        own_name = provider_kinds.find(provider).called(model)
        overrides = [override for override in self.overrides if override.fits(provider, own_name)]
        listing = find_listing(provider, model)
        price = self.resolve(provider, model, at, overrides, listing)
        moments = [override.valid_from for override in overrides]
        moments += change_moments(listing.model, at) if listing else []
        if price.flag and not (listing and is_listed(provider, model, listing)):
            for each in contained(provider, model, listing):
                if (priced := each.price(provider, model, at)) is not None:
                    price = price.at_least(priced)
                moments += change_moments(each.model, at)
        if len(self.known) >= self.CACHED:
            self.known.clear()
        if len(model) <= 200:
            self.known[provider, model] = (
                max((moment for moment in moments if moment <= at), default=BEGINNING),
                min((moment for moment in moments if moment > at), default=END),
                price,
            )
        return price

    def resolve(
        self, provider: str, model: str, at: datetime, overrides: list[OwnPrice], listing: Listing | None
    ) -> ModelPrice:
        """The deployment's own price if one applies; else the catalogue's; else the policy's."""
        listed = listing.price(provider, model, at) if listing else None
        own = next((override for override in overrides if override.valid_from <= at), None)
        if own is None:
            return listed or self.policy.price(provider, model)
        factor = listed.fast.input / listed.input if listed and listed.fast and listed.input else FAST
        price = ModelPrice(
            own.rates.input,
            own.rates.output,
            own.rates.cache_read,
            own.rates.cache_write_5m,
            own.rates.cache_write_1h,
            web_search=own.web_search,
            version=own.version,
            fast=own.rates.times(factor),
            residency=has_residency(provider, model),
            tier_rates=provider_kinds.find(provider).tier_rates,
        )
        return replace(price, served=tuple(served_alike(price, listed)), window=listed.window) if listed else price


def served_alike(price: ModelPrice, listed: ModelPrice) -> Iterator[tuple[str, ModelPrice]]:
    """Service tiers of an own price: they cost the same multiple of it as in the list."""
    for tier, served in listed.served:
        parts = [(getattr(served, name), getattr(listed, name)) for name in ("input", "output")]
        factor = max((one / other for one, other in parts if other), default=Decimal(1))
        yield tier, price.raised(factor, price.version, price.flag)


def build(rows: Iterable[Mapping[str, Any]], policy: UnpricedPolicy | None = None) -> PriceBook:
    """The price book for rows of own prices (`PRICE_COLUMNS`). Uses neither database nor network."""
    return PriceBook(read_overrides(rows), policy or configured_policy())


def load_price_book() -> PriceBook:
    """The price book with the own prices in the database."""
    from usage.models import Price

    return build(Price.objects.values(*PRICE_COLUMNS))


# The catalogue


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
        )
        return replace(price, served=tuple(self.served(at, price))) if price.tier_rates else price

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
