"""What tokens cost at a price, by category, prompt length, fast mode, service tier and residency. No I/O.

Rates are USD per million tokens; costs are USD, exact to twelve places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Literal

from usage import splits
from usage.splits import NONE, PLACES
from usage.tokens import TokenCounts

Flag = Literal["", "similar", "unpriced"]

MILLIONTH = Decimal("0.000001")
BATCH = Decimal("0.5")
RESIDENCY = Decimal("1.1")
# The factor for a model without a fast price in the catalogue. Every listed fast price is twice the standard one.
FAST = Decimal(2)

# Names that providers' answers use for the tier that list prices apply to.
STANDARD_TIERS = frozenset(("", "standard", "default", "on_demand", "auto"))


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens of each category."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def token_costs(self, counts: TokenCounts, factor: Decimal) -> list[Decimal]:
        """USD by category (the first of `CATEGORIES`), at these rates times `factor`, which is a price per token."""
        return [
            self.input * counts.input_tokens * factor,
            self.output * counts.output_tokens * factor,
            self.cache_read * counts.cache_read_input_tokens * factor,
            self.cache_write_5m * counts.cache_creation_5m_input_tokens * factor,
            self.cache_write_1h * counts.cache_creation_1h_input_tokens * factor,
        ]

    def times(self, factor: Decimal) -> Rates:
        """These rates, multiplied by `factor`."""
        return Rates(
            self.input * factor,
            self.output * factor,
            self.cache_read * factor,
            self.cache_write_5m * factor,
            self.cache_write_1h * factor,
        )

    def or_more(self, other: Rates) -> Rates:
        """The higher rate in each category."""
        return Rates(*(max(getattr(self, name), getattr(other, name)) for name in RATES))


RATES = tuple(one.name for one in fields(Rates))


@dataclass(frozen=True, slots=True)
class ModelPrice(Rates):
    """What one model costs at one time; `web_search` is USD per request.

    `tiers` are (prompt tokens, rates): a prompt longer than that is charged at these rates as a whole. `fast` are the
    rates of fast mode. `flag` says that this isn't the model's list price: it is that of a `similar` name, or the model
    is `unpriced`. `served` are the listed prices of service tiers; other tiers cost a multiple of this price
    (`tier_rates`, see `ProviderKind.tier_rates`). `window` is the model's context window in tokens; 0 if unknown.
    `flat` is USD for each request besides. `writes`: the provider caches prompts by itself, and charges more for what
    it writes to a cache. `charged` is what the owner pays, if that isn't this price.
    """

    web_search: Decimal
    version: str
    flag: Flag = ""
    tiers: tuple[tuple[int, Rates], ...] = ()
    fast: Rates | None = None
    residency: bool = False
    served: tuple[tuple[str, ModelPrice], ...] = ()
    tier_rates: Mapping[str, Decimal] = field(default_factory=dict, hash=False)
    window: int = 0
    flat: Decimal = Decimal(0)
    writes: bool = False
    charged: ModelPrice | None = None

    @property
    def owed(self) -> ModelPrice:
        """The price for the owner of a call."""
        return self.charged or self

    def to_us(self) -> ModelPrice:
        """What the provider charges, without what the owner pays."""
        return self if self.charged is None else replace(self, charged=None)

    def cost(
        self,
        counts: TokenCounts,
        *,
        speed: str = "",
        service_tier: str = "",
        inference_geo: str = "",
        steps: int = 1,
    ) -> Decimal:
        """USD for one iteration of a call, without `flat`: the sum of its `costs`."""
        return sum(
            self.costs(counts, speed=speed, service_tier=service_tier, inference_geo=inference_geo, steps=steps), NONE
        )

    def costs(
        self,
        counts: TokenCounts,
        *,
        speed: str = "",
        service_tier: str = "",
        inference_geo: str = "",
        steps: int = 1,
    ) -> list[Decimal]:
        """USD by category (`CATEGORIES`, without `flat`) for one iteration of a call. Tiers depend on the prompt of one
        iteration, not on the sum of several.

        `speed`, `service_tier` and `inference_geo` are the response's. Batches and fast mode don't combine. If the
        provider reported only the sum of several iterations, `steps` is their number.
        """
        if self.tier_rates:
            rates, batch = self.for_tier(service_tier).at(counts.prompt_tokens // steps), False
        else:
            rates, batch = self.at(counts.prompt_tokens // steps), service_tier == "batch"
        # OpenRouter calls fast mode a tier of Anthropic's models. Elsewhere, tiers have prices of their own.
        fast = speed == "fast" or (service_tier == "fast" and not self.tier_rates)
        factor = MILLIONTH * BATCH if batch else MILLIONTH
        if self.residency and inference_geo == "us":
            factor *= RESIDENCY
        if fast and not batch:
            rates = self.fast or rates.times(FAST)
        costs = rates.token_costs(counts, factor)
        costs.append(self.web_search * counts.web_search_requests)
        total = sum(costs, NONE)
        # Only an own price with many decimal places, halved and raised by a tenth, has more than twelve.
        return costs if int(total.as_tuple().exponent) >= -12 else splits.rounded(costs, total.quantize(PLACES))

    def for_tier(self, tier: str) -> ModelPrice:
        """The price of a service tier: the listed one, else a multiple of the standard price, flagged as unpriced."""
        if tier in STANDARD_TIERS or not self.tier_rates:
            return self
        listed = next((price for name, price in self.served if name == tier), None)
        if listed is not None:
            return listed
        factor = self.tier_rates.get(tier, self.tier_rates["*"])
        return self.raised(factor, f"{self.version}, {tier[:20]} x {factor}", "unpriced")

    def raised(self, factor: Decimal, version: str, flag: Flag) -> ModelPrice:
        """This price, multiplied by `factor`."""
        rates = {name: getattr(self, name) * factor for name in RATES}
        tiers = tuple((start, rates.times(factor)) for start, rates in self.tiers)
        return replace(self, **rates, version=version, flag=flag, tiers=tiers)

    def scaled(self, factor: Decimal, version: str) -> ModelPrice:
        """This price with everything multiplied by `factor`: each mode and tier, and what is paid by request."""
        return replace(
            self,
            **{name: getattr(self, name) * factor for name in RATES},
            web_search=self.web_search * factor,
            version=version,
            tiers=tuple((start, rates.times(factor)) for start, rates in self.tiers),
            fast=self.fast.times(factor) if self.fast is not None else None,
            served=tuple((tier, one.scaled(factor, f"{version}, {tier}"[:100])) for tier, one in self.served),
            flat=self.flat * factor,
        )

    def at_least(self, other: ModelPrice) -> ModelPrice:
        """This price, raised in each category and for each prompt length to the other one's where that is higher."""
        starts = sorted({start for start, _ in (*self.tiers, *other.tiers)})
        tiers = tuple((start, self.at(start + 1).or_more(other.at(start + 1))) for start in starts)
        rates, search = self.or_more(other), max(self.web_search, other.web_search)
        flat = max(self.flat, other.flat)
        if (rates, tiers, search, flat) == (self.or_more(self), self.tiers, self.web_search, self.flat):
            return self
        version = f"{self.version}, at least {other.version}"[:100]
        fast = rates.times(FAST) if other.fast is None else rates.times(FAST).or_more(other.fast)
        fast = fast if self.fast is None else fast.or_more(self.fast)
        raised = {name: getattr(rates, name) for name in RATES}
        price = replace(self, **raised, tiers=tiers, web_search=search, fast=fast, served=(), version=version)
        return replace(price, flat=flat, writes=self.writes or other.writes)

    def always_fast(self) -> ModelPrice:
        """The price of this model where it always answers in fast mode."""
        fast = self.fast or self.times(FAST)
        rates = {name: getattr(fast, name) for name in RATES}
        tiers = () if self.fast else tuple((start, rates.times(FAST)) for start, rates in self.tiers)
        return replace(
            self, **rates, tiers=tiers, fast=fast, version=f"{self.version}, fast"[:100], flag=self.flag or "similar"
        )

    @property
    def dearest_tier(self) -> str:
        """The most expensive listed tier; empty for the standard one."""
        prices = [("", self), *self.served]
        return max(prices, key=lambda priced: priced[1].input + priced[1].output)[0]

    def at(self, prompt_tokens: int) -> Rates:
        """The rates for a prompt of this length."""
        for start, rates in reversed(self.tiers):
            if prompt_tokens > start:
                return rates
        return self


# For calls without a model, such as storing or fetching a file.
NOTHING = Decimal(0)
FREE = ModelPrice(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, web_search=NOTHING, version="")
