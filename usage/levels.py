"""Levels: what `usage_rollup` has, added up by fewer dimensions, or by hour, day and month, so that no report has to
read many rows.

A level has some of the dimensions and one grain of time (UTC). Levels of hours and quarters are complete at any time.
Those of days and months have a *period* (a row of `SummedPeriod`) for each day or month that they have; for another
one, a finer level is read. Once a level has a period, what is rolled up later is added to it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models

from usage.covering import GRAINS, after, each
from usage.measures import ALL_MEASURES, sums_of
from usage.summed import DIMENSIONS, Summed

TABLE = "usage_levelsum"
MODELS = ("provider", "model", "status")
TOTALS = (*MODELS, "provider_key_id", "service_tier", "speed", "stream")
OWNERS = ("customer_id", "team_id", "cost_centre", "project")
CALLERS = (*OWNERS, "virtual_key_id")
GROUPS = ("customer_id", "team_id", *MODELS)
PERIODS = ("day", "month")


class SummedPeriod(models.Model):
    """A day or month (its beginning, UTC) that a level of this grain has."""

    pk = models.CompositePrimaryKey("level", "start")
    level = models.CharField(max_length=20)
    start = models.DateTimeField()

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"{self.level} {self.start:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Level:
    """Sums by some dimensions and one grain of time.

    Attributes:
        by: what is summed by; `grain`: of time.
        dimensions: the columns that it has.
        finer: the level whose rows it sums up; None: `usage_rollup`.
        at_once: a period is summed from its beginning on, not after its end.
    """

    by: str
    grain: str
    dimensions: tuple[str, ...]
    finer: Level | None = None
    at_once: bool = True

    @property
    def name(self) -> str:
        """The name in the database."""
        return f"{self.by}_{self.grain}"

    @property
    def has_periods(self) -> bool:
        """Whether it has only the days or months of `SummedPeriod`."""
        return self.grain in PERIODS

    @property
    def bucket(self) -> str:
        """The beginning of the period of a row `f`, as SQL."""
        return "f.bucket" if self.grain == "quarter" else f"date_trunc('{self.grain}', f.bucket, 'UTC')"

    def summed(self, more: str = "") -> Summed:
        """The table's rows of this level.

        Args:
            more: what is joined to what is summed.
        """
        return Summed(
            TABLE,
            {
                "level": f"'{self.name}'",
                "bucket": self.bucket,
                **{name: f"f.{name}" for name in self.dimensions},
            },
            sums_of(ALL_MEASURES),
            more,
            f"level = '{self.name}' AND bucket >= %(since)s AND bucket < %(until)s",
            ("level", "bucket", *DIMENSIONS),
        )

    @property
    def addition(self) -> Summed:
        """The same, to which only rows of periods that it has are added."""
        if not self.has_periods:
            return self.summed()
        return self.summed(f"JOIN usage_summedperiod p ON p.level = '{self.name}' AND p.start = {self.bucket}")

    @property
    def cells(self) -> str:
        """The sums of fresh cells by its dimensions and grain, and the name by which `add` finds them."""
        cell = {"bucket": self.bucket, **{name: f"f.{name}" for name in self.dimensions}}
        summed = Summed("", cell, sums_of(ALL_MEASURES)).select("fresh")
        return f"{self.by}_cells AS MATERIALIZED ({summed})"

    @property
    def add(self) -> str:
        """The statement that adds fresh cells."""
        by = FRESH.get(self.by, self.by)
        if by in FEWER and self.name == FEWER[by].name:
            listed = ", ".join(f"f.{name}" for name in ("bucket", *self.dimensions, *ALL_MEASURES))
            return self.summed().insert(f"SELECT '{self.name}', {listed} FROM {by}_cells f")  # noqa: S608
        return self.addition.add(f"{by}_cells" if by in FEWER else "fresh")

    @property
    def rows_within(self) -> str:
        """What it sums of a time."""
        if self.finer is None:
            return "SELECT * FROM usage_rollup WHERE bucket >= %(since)s AND bucket < %(until)s"
        return f"SELECT * FROM {TABLE} WHERE {self.finer.summed().within}"  # noqa: S608 - constants

    @property
    def fold(self) -> str:
        """The statement that sums a period."""
        summed = self.summed()
        return f"INSERT INTO {TABLE} ({summed.columns}) {summed.select(f'({self.rows_within})')}"


def _levels(by: str, dimensions: tuple[str, ...], *grains: str, at_once: bool = True) -> Iterator[Level]:
    """The levels of these dimensions, the finest first. Each but the first sums the one before."""
    finer = None
    for grain in grains:
        finer = Level(by, grain, dimensions, finer, at_once)
        yield finer


# A level comes after the one that it sums.
LEVELS = (
    *_levels("model", MODELS, *GRAINS),
    *_levels("owner", OWNERS, "hour", "day", "month", at_once=False),
    *_levels("total", TOTALS, *GRAINS),
    *_levels("group", GROUPS, "hour", "day", "month", at_once=False),
    *_levels("caller", CALLERS, "day", "month"),
    *_levels("key", DIMENSIONS, "day", "month", at_once=False),
)
# What fresh cells are added up to first: the levels of their dimensions, or of some of them, sum that.
FEWER = {
    "caller": Level("caller", "hour", CALLERS),
    "group": Level("group", "hour", GROUPS),
    "total": Level("total", "quarter", TOTALS),
}
FRESH = {"model": "total", "owner": "caller"}
MONTHS = tuple(level for level in LEVELS if level.grain == "month")
BELOW_MONTHS = tuple(level for level in LEVELS if level.grain != "month")


@dataclass(frozen=True, slots=True)
class Span:
    """Of which time there are roll-ups.

    Attributes:
        first, last: their first and last quarter.
        whole_since: `RollupState.whole_since`.
    """

    first: datetime
    last: datetime
    whole_since: datetime | None = None


def lacking(level: Level, span: Span, has: Set[tuple[str, datetime]]) -> Iterator[datetime]:
    """The periods that a level lacks and that can be summed now: those that have begun or, if they aren't summed at
    once, are over. The finer level must have all of them that the time reaches.

    Args:
        has: the periods of all levels.
    """
    for start in each(level.grain, span.first, span.last):
        end = after(start, level.grain)
        if (level.name, start) in has or (span.whole_since is not None and start < span.whole_since):
            continue
        if not level.at_once and end > span.last:
            continue
        finer = level.finer
        if finer is not None and finer.has_periods:
            days = each("day", max(start, span.first), min(end - timedelta(days=1), span.last))
            if any((finer.name, day) not in has for day in days):
                continue
        yield start
