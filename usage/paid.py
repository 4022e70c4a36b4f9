"""What people see of calls who may not see prices: what the owner pays, and not what the provider charges."""

from __future__ import annotations

from typing import Any

from usage.models import Adjustment, LedgerEntry


def sees_costs(user: Any) -> bool:
    """Whether a person may see what providers charge."""
    return bool(user.has_perm("usage.view_price"))


def seen_by(user: Any, row: LedgerEntry) -> LedgerEntry:
    """A row as this person may see it."""
    return row if row.charge is None or sees_costs(user) else as_paid(row)


def as_paid(row: LedgerEntry) -> LedgerEntry:
    """Make what the owner pays the row's only amount, also in its attempts and iterations. The row isn't saved."""
    row.cost_split, row.charge_split = row.owed_split, None
    row.cost, row.charge = row.owed, None
    row.attempts, row.iterations = ([_as_paid(part) for part in parts] for parts in (row.attempts, row.iterations))
    return row


def adjustment_as_paid(row: Adjustment) -> Adjustment:
    """The same for an adjustment."""
    row.cost_split, row.charge_split = row.owed_split, None
    row.cost, row.charge = row.owed, None
    return row


def _as_paid(part: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in part.items() if name != "charge"}
    return rest | {"cost": part["charge"]} if "charge" in part else part
