"""Estimates and interrupted calls: what the ledger has for them is a guess, and the provider's report knows."""

from __future__ import annotations

from decimal import Decimal

from reconciliation.causes.cell import Cell
from reconciliation.theirs import ZERO


def counts_agree(cell: Cell) -> bool:
    """Whether the provider counts exactly our requests."""
    return cell.theirs.requests is not None and cell.theirs.requests == cell.dated.requests


def estimates(cell: Cell, volume: Decimal) -> Decimal:
    """What is due to our estimates.

    If the counts agree, that is all of the volume. If the provider counts fewer requests, some of the estimated calls
    may not have reached it: as much as they count here. Without counts it is what these calls can be wrong by.

    Args:
        volume: what no other rule explains yet.
    """
    if not cell.dated.estimated or not volume:
        return ZERO
    if counts_agree(cell):
        return volume
    least = -max(ZERO, cell.estimated_token_cost)
    if cell.theirs.requests is None:
        return min(max(volume, least), cell.dated.room)
    missing = cell.dated.requests - cell.theirs.requests
    if missing <= cell.dated.estimated:
        return min(max(volume, least), cell.dated.room)
    return ZERO


def adjustable(cell: Cell, volume: Decimal) -> Decimal:
    """What adjustments of these calls may change: only where the counts agree."""
    return volume if cell.dated.estimated and counts_agree(cell) else ZERO
