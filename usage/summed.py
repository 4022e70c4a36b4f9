"""Tables of sums: which rows they sum, how rows are added to them, and what is compared with them.

`usage_rollup` sums the ledger (usage/ledger_cells.py says how). The others sum `usage_rollup` further, so that pages
read fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from usage.measures import ALL_MEASURES, plus, sums_of, value

WITHIN_TIME = "bucket >= %(since)s AND bucket < %(until)s"
WITHIN_DAYS = "day >= (%(since)s AT TIME ZONE 'UTC')::date AND day < (%(until)s AT TIME ZONE 'UTC')::date"

# What tells the rows of `usage_rollup` apart besides their time. The beginning of its index: usage/own_usage.py.
DIMENSIONS = (
    *("customer_id", "team_id", "virtual_key_id", "provider_key_id", "model", "status"),
    *("provider", "service_tier", "speed", "stream", "cost_centre", "project"),
)


@dataclass(frozen=True, slots=True)
class Summed:
    """A table of sums, or the rows of a table that are of one level.

    Attributes:
        cell: the columns that tell its rows apart, each with its expression over a row `f` of what it sums.
        measures: the sums, each with its expression.
        more: what is joined to `f`, and on which condition.
        within: the condition on its rows that they are within `%(since)s` and `%(until)s`.
        unique: the columns of its unique index, if these are more than those of the cell.
    """

    table: str
    cell: Mapping[str, str]
    measures: Mapping[str, str]
    more: str = ""
    within: str = WITHIN_TIME
    unique: tuple[str, ...] = ()

    @property
    def columns(self) -> str:
        """All columns, as SQL lists them."""
        return ", ".join((*self.cell, *self.measures))

    def select(self, rows: str) -> str:
        """The sums of the rows of a table or a common table expression."""
        values = ", ".join(f"{value} AS {name}" for name, value in (*self.cell.items(), *self.measures.items()))
        places = ", ".join(map(str, range(1, len(self.cell) + 1)))
        return f"SELECT {values} FROM {rows} f {self.more} GROUP BY {places} ORDER BY {places}"  # noqa: S608

    def add(self, rows: str) -> str:
        """The statement that adds these rows' sums to what is there."""
        return self.insert(self.select(rows))

    def add_summed(self, rows: str) -> str:
        """The same for rows that are sums of its cells already."""
        return self.insert(f"SELECT {self.columns} FROM {rows}")  # noqa: S608

    def insert(self, rows: str) -> str:
        """The statement that adds what a query has in the order of the columns."""
        added = ", ".join(f"{name} = {plus(name)}" for name in self.measures)
        return (
            f"INSERT INTO {self.table} AS t ({self.columns}) {rows} "
            f"ON CONFLICT ({', '.join(self.unique or self.cell)}) DO UPDATE SET {added}"
        )

    @property
    def stored(self) -> str:
        """What is there of a time."""
        values = ", ".join((*self.cell, *(f"{value('t', name)} AS {name}" for name in self.measures)))
        return f"SELECT {values} FROM {self.table} t WHERE {self.within}"  # noqa: S608

    @property
    def delete(self) -> str:
        """The statement that deletes what is there of a time."""
        return f"DELETE FROM {self.table} WHERE {self.within}"  # noqa: S608


# Every table but this one sums its rows.
ROLLUPS = Summed("usage_rollup", {name: f"f.{name}" for name in ("bucket", *DIMENSIONS)}, sums_of(ALL_MEASURES))
