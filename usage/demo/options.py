"""What demo data is made with."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keys.errors import Unusable

MOST = {"rows": 100_000_000, "months": 60, "customers": 1000, "teams": 40_000, "keys": 400_000}


@dataclass(frozen=True, slots=True)
class Options:
    """How much demo data there is, of which time. With the same options, it is the same."""

    rows: int
    months: int
    customers: int
    teams: int
    keys: int
    seed: int
    until: datetime

    def check(self) -> None:
        """Refuse what can't be made.

        Raises:
            Unusable: a number is too small or too large, or there are more customers than teams.
        """
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise Unusable(f"--{name} must be between 1 and {most:,}")
        if self.teams < self.customers:
            raise Unusable("--teams must be at least --customers: each customer has a team")

    @property
    def since(self) -> datetime:
        """The first moment: the months before the last one."""
        month = self.until.year * 12 + self.until.month - 1 - self.months
        year, number = divmod(month, 12)
        day = min(self.until.day, calendar.monthrange(year, number + 1)[1])
        return self.until.replace(year=year, month=number + 1, day=day)

    def as_json(self) -> dict[str, Any]:
        """As the mark keeps them."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"until": self.until.isoformat()}

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Options:
        """From what `as_json` made, of which other members are left out."""
        values = {name: kept[name] for name in cls.__slots__}
        return cls(**values | {"until": datetime.fromisoformat(kept["until"])})
