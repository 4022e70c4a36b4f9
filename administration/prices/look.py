"""What a call of a model costs an owner, and why: by the function that prices calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from keys.models import Customer, Team, VirtualKey
from usage.models import Price
from usage.price_rows import CHARGE, COST, SCOPES, Owner, PriceRow
from usage.pricing import Choice, ModelPrice, PriceBook, UnpricedModel, load_price_book
from usage.tokens import TokenCounts


@dataclass(frozen=True, slots=True)
class Judged:
    """An own price that fits the model, and why it does or doesn't apply."""

    row: PriceRow
    price: Price
    applies: bool
    why: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a call costs.

    Attributes:
        cost: what the provider charges for the call, in USD; `owed`: what the owner pays.
        base: the list price, or the price of an unknown model, that the rows start from; None: neither.
        rows: the own prices that fit the model and the owner, the winner first.
    """

    price: ModelPrice
    cost: Decimal
    owed: Decimal
    base: ModelPrice | None
    rows: list[Judged]


def owner_of(customer: Customer | None, team: Team | None, key: VirtualKey | None) -> Owner | None:
    """Who calls: the narrowest of these, with those above it; None: someone without a price of their own."""
    if key is not None:
        return Owner(key.pk, key.team_id, key.customer_id)
    if team is not None:
        return Owner(0, team.pk, team.customer_id)
    return Owner(0, None, customer.pk) if customer is not None else None


def look(provider: str, model: str, at: datetime, owner: Owner | None, counts: TokenCounts) -> Look | None:
    """What a call of this many tokens costs at a moment; None: it is refused, because its model has no price.

    Args:
        owner: who calls; None: someone for whom no row is.
    """
    book = load_price_book()
    scope = book.scope(owner) if owner is not None else (None, None, None)
    try:
        choice = book.choose(provider, model, at, scope)
    except UnpricedModel:
        return None
    return Look(
        choice.price,
        choice.price.cost(counts) + choice.price.flat,
        choice.price.owed.cost(counts) + choice.price.owed.flat,
        base(book, provider, model, at),
        judged(choice, at),
    )


def base(book: PriceBook, provider: str, model: str, at: datetime) -> ModelPrice | None:
    """The price without own ones."""
    try:
        return PriceBook((), book.policy).price(provider, model, at)
    except UnpricedModel:
        return None


def judged(choice: Choice, at: datetime) -> list[Judged]:
    """The own prices that fit, with a word on each."""
    stored = Price.objects.select_related("customer", "team__customer", "virtual_key").in_bulk(
        [row.id for row in choice.rows]
    )
    winners = {COST: choice.cost_row, CHARGE: choice.charge_row}
    return [
        Judged(row, stored[row.id], row is winners[row.sets], why(row, winners[row.sets], at))
        for row in choice.rows
        if row.id in stored
    ]


def why(row: PriceRow, winner: PriceRow | None, at: datetime) -> str:
    """Why a row that fits applies, or doesn't."""
    if row is winner:
        return f"it sets the {row.sets}: no row of a higher rank is in force"
    if at < row.valid_from:
        return "it isn't in force yet"
    if row.valid_to is not None and at >= row.valid_to:
        return "it has ended"
    assert winner is not None
    if row.scope != winner.scope:
        return f"price {winner.id} is for the {SCOPES[winner.scope]}, which comes first"
    if bool(row.provider) != bool(winner.provider):
        return f"price {winner.id} names the provider"
    if row.rank == winner.rank:
        return f"price {winner.id} replaced it"
    return f"price {winner.id} says more of the model's name"
