"""What a recorded call costs at other prices: its tokens and mode, as the ledger has them, priced once more.

A call's own settlement (messages_api/answer/settlement.py) prices reports of a provider. Here, the same parts are read
from the row: its attempts, the iterations of the last one, and the mode that the answer named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from keys import provider_kinds
from usage import splits
from usage.models import Adjustment, LedgerEntry
from usage.pricing import ModelPrice, Owner, UnpricedModel
from usage.splits import NONE
from usage.tokens import TOKEN_COLUMNS, TokenCounts

# What a settlement that came late says instead of the row of the interrupted call.
LATE = ("model", "service_tier", "speed", "inference_geo", "iterations", "attempts", "price_version", "price_flag")
NOTHING = TokenCounts()
# The price of a model of a provider for a call.
PriceOf = Callable[[str, str], ModelPrice]


@dataclass(frozen=True, slots=True)
class Amounts:
    """USD that the provider charges, and that the owner pays, with their parts by category (usage/splits.py);
    `versions`: of the prices of which they are made."""

    cost: Decimal = Decimal(0)
    owed: Decimal = Decimal(0)
    versions: tuple[str, ...] = ()
    differs: bool = False
    cost_split: Sequence[Decimal] = ()
    owed_split: Sequence[Decimal] = ()

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.cost + other.cost,
            self.owed + other.owed,
            tuple(dict.fromkeys((*self.versions, *other.versions))),
            self.differs or other.differs,
            splits.added(self.cost_split, other.cost_split),
            splits.added(self.owed_split, other.owed_split),
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call as the ledger and the adjustments that settle or reprice it have it.

    Attributes:
        amounts: what they say that it costs.
        counts: its tokens.
        has_charge: what the owner pays is recorded apart.
        repriced: it was priced again before.
    """

    row: LedgerEntry
    said: Mapping[str, Any]
    amounts: Amounts
    counts: TokenCounts
    has_charge: bool
    repriced: bool

    @property
    def owner(self) -> Owner:
        """Who pays for it."""
        return Owner(self.row.virtual_key_id, self.row.team_id, self.row.customer_id)

    def parts(self) -> list[Part]:
        """What is priced apart: each attempt that used something, or each iteration of the last one."""
        before = [each for each in self.said["attempts"][:-1] if counts_of(each) != NOTHING]
        parts = [self.part(each, each.get("provider", ""), free=not Decimal(each["cost"])) for each in before]
        rest = self.counts
        for each in before:
            rest = without(rest, counts_of(each))
        steps = self.said["iterations"]
        if steps:
            answered = [self.part(each, self.row.provider, free=not Decimal(each["cost"])) for each in steps]
        else:
            free = self.said["price_flag"] == "refusal_not_billed" and not self.row.cost
            answered = [Part(self.row.provider, self.said["model"], rest, free, 1 + rest.web_search_requests)]
        return [*(replace(part, flat=True) for part in parts), *answered[:-1], replace(answered[-1], flat=True)]

    def part(self, said: Mapping[str, Any], provider: str, *, free: bool) -> Part:
        """A part that the row describes."""
        counts = counts_of(said)
        return Part(provider, said.get("model") or self.said["model"], counts, free and counts != NOTHING)

    def at(self, price_of: PriceOf) -> Amounts:
        """What it costs at these prices.

        Raises:
            UnpricedModel: one of its models has no price there.
        """
        return sum((self.amount(part, price_of) for part in self.parts()), Amounts())

    def amount(self, part: Part, price_of: PriceOf) -> Amounts:
        """What a part costs."""
        if part.counts == NOTHING:
            return Amounts()
        region = self.row.provider_key.region if self.row.provider_key else ""
        price = price_of(part.provider, provider_kinds.find(part.provider).sold_as(region, part.model, ""))
        version = price.owed.for_tier(self.said["service_tier"]).version
        if part.free:
            return Amounts(versions=(version,), differs=price.charged is not None)
        mode = {name: self.said[name] for name in ("speed", "service_tier", "inference_geo")}
        cost, owed = (each.costs(part.counts, steps=part.steps, **mode) for each in (price, price.owed))
        if part.flat:
            cost.append(price.flat)
            owed.append(price.owed.flat)
        return Amounts(sum(cost, NONE), sum(owed, NONE), (version,), price.charged is not None, cost, owed)

    def is_regular(self, price_of: PriceOf) -> bool:
        """Whether its amounts follow from its tokens. Not those of an attempt that was charged its ceiling, or of an
        estimate that was limited by its hold: if these prices are those that it was priced with, it costs something
        else. If they aren't, an estimate can't be checked, and counts as one of these."""
        if self.repriced:
            return True
        try:
            then = self.at(price_of)
        except UnpricedModel:
            return False
        if "; ".join(then.versions) != self.said["price_version"]:
            return not self.row.estimated
        return (then.cost, then.owed) == (self.amounts.cost, self.amounts.owed)


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens that have one price. `flat`: that of a request comes on top; `steps`: how often the prompt was read."""

    provider: str
    model: str
    counts: TokenCounts
    free: bool
    steps: int = 1
    flat: bool = False


def amounts_of(row: LedgerEntry | Adjustment) -> Amounts:
    """What a row or an adjustment says."""
    return Amounts(row.cost, row.owed, cost_split=row.cost_split or (), owed_split=row.owed_split)


def counts_of(said: Mapping[str, Any]) -> TokenCounts:
    """The tokens of an attempt or iteration, of which the row names only those that it used."""
    return TokenCounts(*(int(said.get(name) or 0) for name in TOKEN_COLUMNS))


def without(counts: TokenCounts, other: TokenCounts) -> TokenCounts:
    """What is left of counts, at least nothing."""
    return TokenCounts(*(max(0, getattr(counts, name) - getattr(other, name)) for name in TOKEN_COLUMNS))


def recorded(row: LedgerEntry, adjustments: Iterable[Adjustment]) -> Recorded:
    """A call with the adjustments that settle it late or price it again. Others stand on their own: they correct
    something else than the price.
    """
    reasons = Adjustment.Reason
    counted = [one for one in adjustments if one.reason in (reasons.LATE_SETTLEMENT, reasons.REPRICING)]
    said: dict[str, Any] = {name: getattr(row, name) for name in LATE}
    for one in counted:
        if one.reason == reasons.LATE_SETTLEMENT:
            said |= {name: one.detail[name] for name in LATE if name in one.detail}
    counts = TokenCounts(*(getattr(row, name) + sum(getattr(one, name) for one in counted) for name in TOKEN_COLUMNS))
    amounts = sum((amounts_of(one) for one in counted), amounts_of(row))
    has_charge = any(one.charge is not None for one in (row, *counted))
    repriced = any(one.reason == reasons.REPRICING for one in counted)
    return Recorded(row, said, amounts, counts, has_charge, repriced)
