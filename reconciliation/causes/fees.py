"""Fees that aren't for tokens: web searches, code execution, sessions. The ledger has only web searches."""

from __future__ import annotations

from decimal import Decimal

from reconciliation.causes.cell import Cell
from reconciliation.reports.rows import EXACT


def fees(cell: Cell) -> Decimal:
    """Their fees without ours."""
    return EXACT.subtract(cell.theirs.fees, cell.dated.searches * cell.search_price)
