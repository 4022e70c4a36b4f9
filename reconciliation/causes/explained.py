"""Takes a difference apart. The parts and what stays unexplained sum to it exactly.

theirs - ours = fees + hour edges + price + volume
volume = other use + estimates + late revision + unexplained
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from reconciliation.causes.cell import Cell
from reconciliation.causes.estimates import adjustable, estimates
from reconciliation.causes.fees import fees
from reconciliation.causes.hour_edges import hour_edges
from reconciliation.causes.late_revision import late_revision
from reconciliation.causes.other_use import other_use, unsent_requests
from reconciliation.causes.price import price
from reconciliation.reports.rows import EXACT


@dataclass(frozen=True, slots=True)
class Explained:
    """The parts of a difference in USD, named as in `comparisons.CAUSES`."""

    other_use: Decimal
    estimates: Decimal
    hour_edges: Decimal
    late_revision: Decimal
    discount: Decimal
    price_book: Decimal
    fees: Decimal
    unexplained: Decimal
    adjustable: Decimal
    unsent_requests: int


def explain(cell: Cell) -> Explained:
    """The parts."""
    edges, not_tokens, prices = hour_edges(cell), fees(cell), price(cell)
    rest = cell.difference
    for part in (edges, not_tokens, prices.discount, prices.price_book):
        rest = EXACT.subtract(rest, part)
    may_change = adjustable(cell, rest)
    theirs_alone = other_use(cell, rest)
    rest = EXACT.subtract(rest, theirs_alone)
    guessed = estimates(cell, rest)
    rest = EXACT.subtract(rest, guessed)
    revised = late_revision(cell, rest)
    return Explained(
        other_use=theirs_alone,
        estimates=guessed,
        hour_edges=edges,
        late_revision=revised,
        discount=prices.discount,
        price_book=prices.price_book,
        fees=not_tokens,
        unexplained=EXACT.subtract(rest, revised),
        adjustable=may_change,
        unsent_requests=unsent_requests(cell),
    )
