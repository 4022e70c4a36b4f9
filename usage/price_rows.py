"""The deployment's own prices: which row applies to a call, and what it makes of a price. No I/O.

A row sets what the provider charges us (`cost`, as a negotiated contract does) or what the owner of a call pays
(`charge`, as a mark-up does). Prices are USD per million tokens, `web_search` and `flat` USD per request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from keys import model_names, patterns
from usage.named_models import is_version
from usage.rates import FAST, RATES, ModelPrice, Rates

COST, CHARGE = "cost", "charge"
BEGINNING = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)

# The columns of `usage.models.Price` that `read_rows` reads, and a query for code that can't use the ORM.
PRICE_COLUMNS = (
    *("id", "sets", "provider", "model", "customer_id", "team_id", "virtual_key_id", "valid_from", "valid_to"),
    *(*RATES, "web_search", "flat", "percent"),
)
PRICES_SQL = f"SELECT {', '.join(PRICE_COLUMNS)} FROM usage_price"  # noqa: S608 - constants

# From the widest to the narrowest owner of a row.
SCOPES = ("all", "customer", "team", "virtual key")


class Payer(Protocol):
    """Whose call it is. `id`: the virtual key's."""

    @property
    def id(self) -> int: ...
    @property
    def team(self) -> int | None: ...
    @property
    def customer(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Owner:
    """A virtual key, with its team and customer; 0 for a call of a team or customer without a key."""

    id: int
    team: int | None
    customer: int


# A customer, team and virtual key that rows name; None where no row does.
Scope = tuple[int | None, int | None, int | None]
NO_ROWS: Scope = (None, None, None)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A row of own prices. `rates` has USD per million tokens by category; a category that it doesn't name, and each of
    the other prices that is None, stays as it is. `percent` is added to all prices: 20 is a mark-up, -15 a discount;
    such a row has no rates. `flat` comes on top.
    """

    id: int
    sets: str
    provider: str
    model: str
    valid_from: datetime
    valid_to: datetime | None = None
    customer: int | None = None
    team: int | None = None
    key: int | None = None
    rates: tuple[tuple[str, Decimal], ...] = ()
    web_search: Decimal | None = None
    flat: Decimal | None = None
    percent: Decimal | None = None

    @property
    def scope(self) -> int:
        """For whom it is, as an index of `SCOPES`."""
        return 3 if self.key is not None else 2 if self.team is not None else 1 if self.customer is not None else 0

    @property
    def rank(self) -> tuple[int, bool, bool, int]:
        """The highest rank wins: the narrowest owner, one provider over any, a name over a pattern, and of patterns the
        one with the longest literal part."""
        return self.scope, bool(self.provider), "*" not in self.model, len(self.model.replace("*", ""))

    @property
    def order(self) -> tuple[tuple[int, bool, bool, int], datetime, int]:
        """The highest of the rows in force wins. Of equal rank, that is the one that began last."""
        return self.rank, self.valid_from, self.id

    @property
    def is_whole(self) -> bool:
        """Whether it sets the price of each category of tokens."""
        return len(self.rates) == len(RATES)

    @property
    def version(self) -> str:
        """How the ledger names it."""
        return f"price {self.id}"

    def is_for(self, scope: Scope) -> bool:
        """Whether it applies to the calls of these."""
        customer, team, key = scope
        return self.customer in (None, customer) and self.team in (None, team) and self.key in (None, key)

    def fits(self, provider: str, model: str) -> bool:
        """Whether it applies to this model of this provider. A name's price is that of each date and spelling of the
        model, too, or a caller could choose one that costs less."""
        return self.provider in ("", provider) and (
            patterns.stands_for(self.model, model) or ("*" not in self.model and is_version(self.model, model))
        )

    def in_force(self, at: datetime) -> bool:
        """Whether it applies at this time."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)

    def applied(self, base: ModelPrice) -> ModelPrice:
        """The price that the row makes of another one."""
        version = f"{self.version} on {base.version}"[:100]
        price = replace(base, version=version)
        if self.percent is not None:
            price = base.scaled(1 + self.percent / 100, version)
        if self.rates:
            price = self._with_rates(price)
        if self.web_search is not None:
            price = replace(price, web_search=self.web_search)
            price = replace(
                price, served=tuple((tier, replace(one, web_search=self.web_search)) for tier, one in price.served)
            )
        if self.sets == COST and self.is_whole and self.flat is not None:
            return replace(price, flat=self.flat)
        return replace(price, flat=price.flat + (self.flat or 0))

    def _with_rates(self, base: ModelPrice) -> ModelPrice:
        """The price with the row's own rates, for prompts of every length. Fast mode and service tiers cost the same
        multiple of them as of the price that the row replaces."""
        own = dict(self.rates)

        def put(rates: Rates, factor: Decimal = Decimal(1)) -> Rates:
            return Rates(*(own[name] * factor if name in own else getattr(rates, name) for name in RATES))

        changed = put(base)
        rates = {name: getattr(changed, name) for name in RATES}
        tiers = () if self.is_whole else tuple((start, put(each)) for start, each in base.tiers)
        fast = put(base.fast or base.times(FAST), base.fast.input / base.input if base.fast and base.input else FAST)
        price = replace(
            base,
            **rates,
            version=self.version if self.is_whole else base.version,
            flag="" if self.is_whole else base.flag,
            tiers=tiers,
            fast=fast,
            served=(),
        )
        served = []
        for tier, each in base.served:
            parts = [(getattr(each, name), getattr(base, name)) for name in ("input", "output")]
            factor = max((one / other for one, other in parts if other), default=Decimal(1))
            served.append((tier, price.raised(factor, price.version, price.flag)))
        return replace(price, served=tuple(served))

    def clashes(self, other: PriceRow) -> bool:
        """Whether both could apply to a call without one of them being the more specific or the later one. A row
        without an end may be replaced by one that begins later."""
        owners = [(row.sets, row.customer, row.team, row.key, row.provider, row.rank) for row in (self, other)]
        if owners[0] != owners[1] or not self._meets(other):
            return False
        earlier, later = sorted((self, other), key=lambda row: row.valid_from)
        if earlier.valid_from == later.valid_from:
            return True
        return earlier.valid_to is not None and later.valid_from < earlier.valid_to

    def _meets(self, other: PriceRow) -> bool:
        """Whether there is a model that both fit, if their rank is equal."""
        if "*" in self.model:
            return patterns.overlap(self.model, other.model)
        same = model_names.fold(self.model) == model_names.fold(other.model)
        return same or is_version(self.model, other.model) or is_version(other.model, self.model)


def read_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[PriceRow, ...]:
    """Own prices from rows with `PRICE_COLUMNS`, highest order first."""
    read = (
        PriceRow(
            id=row["id"],
            sets=row.get("sets", COST),
            provider=row["provider"],
            model=row["model"],
            valid_from=row["valid_from"],
            valid_to=row.get("valid_to"),
            customer=row.get("customer_id"),
            team=row.get("team_id"),
            key=row.get("virtual_key_id"),
            rates=tuple((name, row[name]) for name in RATES if row[name] is not None),
            web_search=row["web_search"],
            flat=row.get("flat"),
            percent=row.get("percent"),
        )
        for row in rows
    )
    return tuple(sorted(read, key=lambda row: row.order, reverse=True))
