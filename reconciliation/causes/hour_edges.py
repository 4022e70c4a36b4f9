"""Hour edges: the ledger counts a call to the hour of its admission, a provider maybe to that of its end.

Over a range that no call crosses, these parts sum to zero.
"""

from __future__ import annotations

from decimal import Decimal

from reconciliation.causes.cell import Cell


def hour_edges(cell: Cell) -> Decimal:
    """Calls that count to this hour and began in another one, without those that began here and count to another."""
    return cell.dated.cost - cell.ours.cost
