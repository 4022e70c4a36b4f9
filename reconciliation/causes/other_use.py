"""Other use of the key: the provider counts requests that we never sent. It is also what the leak detector tells of."""

from __future__ import annotations

from decimal import Decimal

from reconciliation.causes.cell import Cell
from reconciliation.reports.rows import EXACT
from reconciliation.theirs import ZERO


def unsent_requests(cell: Cell) -> int:
    """Their requests beyond ours; 0 where the report has no counts."""
    if cell.theirs.requests is None:
        return 0
    return max(0, cell.theirs.requests - cell.dated.requests)


def other_use(cell: Cell, volume: Decimal) -> Decimal:
    """What such requests cost: tokens that the provider counts and we don't. Our estimates are taken to be right: a
    cell with such requests can't say otherwise.

    Args:
        volume: what neither fees, hour edges nor prices explain.
    """
    if not unsent_requests(cell):
        return ZERO
    beside = EXACT.subtract(volume, estimates_at_their_price(cell))
    return max(ZERO, beside)


def estimates_at_their_price(cell: Cell) -> Decimal:
    """What our estimated tokens cost at the provider, without what the ledger has for them."""
    if not cell.dated.estimated:
        return ZERO
    return EXACT.subtract(
        cell.sum_of(cell.paid, lambda name: cell.dated.estimated_tokens[name]), cell.estimated_token_cost
    )
