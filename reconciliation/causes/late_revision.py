"""Late revision: the provider has changed its figures since it reported them first."""

from __future__ import annotations

from decimal import Decimal

from reconciliation.causes.cell import Cell
from reconciliation.reports.rows import EXACT
from reconciliation.theirs import ZERO


def late_revision(cell: Cell, volume: Decimal) -> Decimal:
    """As much of the rest as the provider has changed in the same direction.

    Args:
        volume: what no other rule explains.
    """
    if cell.first is None:
        return ZERO
    change = EXACT.subtract(cell.theirs.token_amount, cell.first.token_amount)
    if not change or not volume or (change > 0) != (volume > 0):
        return ZERO
    return min(change, volume, key=abs)
