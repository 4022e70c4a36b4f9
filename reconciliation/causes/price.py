"""Price: the same tokens cost another amount. A contract's discount is distinguished from a wrong price book by the
report's list price.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from reconciliation.causes.cell import Cell
from reconciliation.reports.rows import EXACT
from reconciliation.theirs import ZERO


class PriceParts(NamedTuple):
    """What the contract's discount explains, and what a price book explains that differs from their list."""

    discount: Decimal = ZERO
    price_book: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Both."""
        return EXACT.add(self.discount, self.price_book)


def price(cell: Cell) -> PriceParts:
    """Our tokens that aren't estimates, at what the provider charges for such tokens, without what the ledger has."""
    paid = cell.sum_of(cell.paid, cell.dated.exact_tokens)
    difference = EXACT.subtract(paid, cell.exact_token_cost)
    if not difference or cell.theirs.listed is None:
        return PriceParts(ZERO, difference)
    discount = EXACT.subtract(paid, cell.sum_of(cell.listed, cell.dated.exact_tokens))
    rest = EXACT.subtract(difference, discount)
    # If our price book has the discount already, only the rest is a difference.
    return PriceParts(discount, rest) if abs(rest) < abs(difference) else PriceParts(ZERO, difference)
