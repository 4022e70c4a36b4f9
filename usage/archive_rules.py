"""What other apps say about archiving a month: why it can't be done yet, and what they keep of it. They add themselves
when they start (their apps.py), since this app doesn't know them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class LedgerMonth:
    """A month of the ledger (UTC, by the ids of its calls).

    Attributes:
        starts_at, ends_at: the month itself.
        first_id, end_id: the ids of its calls are from one until before the other.
        table: its partition, quoted.
    """

    month: date
    starts_at: datetime
    ends_at: datetime
    first_id: UUID
    end_id: UUID
    table: str

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class Keeper(Protocol):
    """An app that has a say. All methods run in the caller's transaction, if there is one."""

    def reasons(self, month: LedgerMonth) -> Iterable[str]:
        """Why this month can't be archived yet, each a sentence."""

    def stamp(self) -> str:
        """A text that changes whenever there may be other reasons, or something else to keep."""

    def keep(self, month: LedgerMonth) -> None:
        """Store what is needed of the month once its rows are out of the ledger. An earlier attempt's is replaced."""

    def put_back(self, month: date) -> None:
        """Forget that again: the rows are back."""


_keepers: list[Keeper] = []


def add(keeper: Keeper) -> None:
    """Ask this app."""
    if keeper not in _keepers:
        _keepers.append(keeper)


def stamps() -> list[str]:
    """The stamps of all apps."""
    return [each.stamp() for each in _keepers]


def keepers() -> tuple[Keeper, ...]:
    """The apps that have a say."""
    return tuple(_keepers)
