"""What a call costs, and what its owner pays: list prices, overridden by the deployment's own prices.

List prices are those of the catalogue (usage/listings.py); usage/price_rows.py says which own price applies. Only
`load_price_book` reads the database, and no function uses the network. Prices are USD per million tokens; costs are
USD, exact to twelve places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from keys import provider_kinds
from keys.model_names import is_fast, without_fast
from usage.listings import (
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    CLAUDE_VERSION,
    SAME_PRICE,
    WEB_SEARCH,
    change_moments,
    contained,
    current_models,
    fee_of,
    find_listing,
    generation,
    has_residency,
    is_current,
    is_listed,
)
from usage.named_models import catalogue
from usage.price_rows import (
    BEGINNING,
    CHARGE,
    COST,
    END,
    NO_ROWS,
    PRICE_COLUMNS,
    PRICES_SQL,
    Owner,
    Payer,
    PriceRow,
    Scope,
    read_rows,
)
from usage.rates import BATCH, FREE, STANDARD_TIERS, ModelPrice, Rates

# Other modules import these names from here.
__all__ = [
    "BATCH",
    "BEGINNING",
    "CLAUDE_VERSION",
    "FREE",
    "PRICES_SQL",
    "PRICE_COLUMNS",
    "SAME_PRICE",
    "STANDARD_TIERS",
    "ModelPrice",
    "Owner",
    "Payer",
    "PriceBook",
    "Rates",
    "UnpricedModel",
    "UnpricedPolicy",
    "catalogue",
    "current_models",
    "find_listing",
    "generation",
    "is_current",
]


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
            flat=fee_of(model),
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
class Choice:
    """Which price applies to a call, and why.

    Attributes:
        price: what it costs, with what the owner pays.
        rows: the own prices that fit, at any time, in the order in which they win.
        cost_row: the one that sets what the provider charges; `charge_row`: the one that sets what the owner pays.
        moments: when the price may change.
    """

    price: ModelPrice
    rows: tuple[PriceRow, ...]
    cost_row: PriceRow | None
    charge_row: PriceRow | None
    moments: tuple[datetime, ...]


class PriceBook:
    """A snapshot of all prices. A repeated look-up takes a microsecond.

    `owners_differ`: owners may pay something else than what the provider charges.
    """

    CACHED = 4096

    def __init__(self, rows: tuple[PriceRow, ...], policy: UnpricedPolicy) -> None:
        self.rows = rows
        self.policy = policy
        self.owners_differ = any(row.sets == CHARGE for row in rows)
        # The owners that rows are for: calls of all others have the same prices.
        self.customers = {row.customer for row in rows if row.customer is not None}
        self.teams = {row.team for row in rows if row.team is not None}
        self.keys = {row.key for row in rows if row.key is not None}
        self.scoped = bool(self.customers or self.teams or self.keys)
        # Each price with the period in which it applies: from one change of price to the next.
        self.known: dict[tuple[str, str, Scope], tuple[datetime, datetime, ModelPrice]] = {}

    def price(self, provider: str, model: str, at: datetime, owner: Payer | None = None) -> ModelPrice:
        """What the model costs at this time (aware), with what this owner pays. An unknown price is never taken for
        free.

        Raises:
            UnpricedModel: the price is unknown, and the policy is to refuse.
        """
        scope = self.scope(owner) if self.scoped and owner is not None else NO_ROWS
        known = self.known.get((provider, model, scope))
        if known is not None and known[0] <= at < known[1]:
            return known[2]
        return self.learn(provider, model, at, scope)

    def scope(self, owner: Payer) -> Scope:
        """Those of a call's customer, team and virtual key that rows are for."""
        return (
            owner.customer if owner.customer in self.customers else None,
            owner.team if owner.team in self.teams else None,
            owner.id if owner.id in self.keys else None,
        )

    def unpriced(self) -> ModelPrice:
        """The deliberately high price, for a call that has already run and so can't be refused."""
        return replace(self.policy, refuse=False).price("", "")

    def learn(self, provider: str, model: str, at: datetime, scope: Scope = NO_ROWS) -> ModelPrice:
        """Look a price up, and cache it with the period in which it applies."""
        choice = self.choose(provider, model, at, scope)
        if len(self.known) >= self.CACHED:
            self.known.clear()
        if len(model) <= 200:
            self.known[provider, model, scope] = (
                max((moment for moment in choice.moments if moment <= at), default=BEGINNING),
                min((moment for moment in choice.moments if moment > at), default=END),
                choice.price,
            )
        return choice.price

    def choose(self, provider: str, model: str, at: datetime, scope: Scope = NO_ROWS) -> Choice:
        """The price that applies, and the rows that make it.

        Raises:
            UnpricedModel: as `price`.
        """
        own_name = provider_kinds.find(provider).called(model)
        rows = tuple(row for row in self.rows if row.is_for(scope) and row.fits(provider, own_name))
        listing = find_listing(provider, model)
        fast = is_fast(model) and not (listing and is_listed(provider, model, listing))
        base = without_fast(model) if fast else model
        if fast:
            listing = find_listing(provider, base)
        moments = [moment for row in rows for moment in (row.valid_from, row.valid_to) if moment is not None]
        moments += change_moments(listing.model, at) if listing else []
        in_force = [row for row in rows if row.in_force(at)]
        cost_row = next((row for row in in_force if row.sets == COST), None)
        charge_row = next((row for row in in_force if row.sets == CHARGE), None)
        listed = listing.price(provider, base, at) if listing else None
        if cost_row is not None and cost_row.is_whole:
            price = cost_row.applied(listed or bare(cost_row, provider, model))
        else:
            price = listed or self.policy.price(provider, model)
            price = price.always_fast() if fast else price
            if price.flag and not (listing and is_listed(provider, model, listing)):
                for each in contained(provider, model, listing):
                    if (priced := each.price(provider, model, at)) is not None:
                        price = price.at_least(priced)
                    moments += change_moments(each.model, at)
            if cost_row is not None:
                price = cost_row.applied(price)
        if charge_row is not None:
            price = replace(price, charged=charge_row.applied(price))
        return Choice(price, rows, cost_row, charge_row, tuple(moments))


def bare(row: PriceRow, provider: str, model: str) -> ModelPrice:
    """The price of a model without a list price, from a row that sets each category of tokens."""
    rates = dict(row.rates)
    return ModelPrice(
        rates["input"],
        rates["output"],
        rates["cache_read"],
        rates["cache_write_5m"],
        rates["cache_write_1h"],
        web_search=WEB_SEARCH,
        version=row.version,
        residency=has_residency(provider, model),
        tier_rates=provider_kinds.find(provider).tier_rates,
    )


def build(rows: Iterable[Mapping[str, Any]], policy: UnpricedPolicy | None = None) -> PriceBook:
    """The price book for rows of own prices (`PRICE_COLUMNS`). Uses neither database nor network."""
    return PriceBook(read_rows(rows), policy or configured_policy())


def load_price_book() -> PriceBook:
    """The price book with the own prices in the database."""
    from usage.models import Price

    return build(Price.objects.values(*PRICE_COLUMNS))
