"""What customers, teams and virtual keys use each day: the roll-ups of the pages of one owner.

`usage_rollup` has a row for each key, model and quarter of an hour. Of a customer with many keys, that is too much to
add up while a person waits, so the same task adds its rows up for each owner, too (usage/rollups.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Sum
from django.db.models.functions import Collate, Lower
from django.utils import timezone

from usage.measures import value
from usage.summed import WITHIN_DAYS, Summed

# Models that a page lists; the others are added up.
MODELS = 10
DAYS = 30
MEASURES = ("calls", "failed_calls", "cost", "input_tokens", "output_tokens")


class OwnerDay(models.Model):
    """What an owner used of a model on a day (UTC, by admission).

    `owner` is made like that of budgets: the id times 4, plus 0 for a customer, 1 for a team, 2 for a virtual key.
    `cost` is what the owner pays. `input_tokens` are all that the model read, from caches too. `failed_calls` are those
    without a complete answer.
    """

    pk = models.CompositePrimaryKey("owner", "day", "model")
    owner = models.BigIntegerField()
    day = models.DateField()
    model = models.TextField()
    calls = models.BigIntegerField()
    failed_calls = models.BigIntegerField()
    cost = models.DecimalField(max_digits=30, decimal_places=12)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"{self.owner} {self.day:%Y-%m-%d} {self.model}"


OWNER_DAYS = Summed(
    "usage_ownerday",
    {"owner": "o.owner", "day": "(f.bucket AT TIME ZONE 'UTC')::date", "model": "f.model"},
    {
        "calls": "sum(f.calls)",
        "failed_calls": "coalesce(sum(f.calls) FILTER (WHERE f.status <> 'completed'), 0)",
        "cost": f"sum({value('f', 'charge')})",
        "input_tokens": "sum(f.input_tokens + f.cache_read_input_tokens + f.cache_creation_5m_input_tokens"
        " + f.cache_creation_1h_input_tokens)",
        "output_tokens": "sum(f.output_tokens)",
    },
    "JOIN LATERAL (VALUES (f.customer_id * 4), (f.team_id * 4 + 1), (f.virtual_key_id * 4 + 2)) AS o (owner)"
    " ON o.owner IS NOT NULL",
    WITHIN_DAYS,
)


@dataclass(frozen=True, slots=True)
class Used:
    """Sums of an owner's calls: of a day, of a model, or of a time. Cost in USD."""

    calls: int = 0
    failed_calls: int = 0
    cost: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(*(getattr(self, name) + getattr(other, name) for name in MEASURES))


@dataclass(frozen=True, slots=True)
class OwnerUsage:
    """An owner's use of the last `DAYS` days (UTC, today included), by day and by model, and of this month."""

    days: dict[date, Used]
    models: list[tuple[str, Used]]
    month: Used
    total: Used


def usage_of(owner: int) -> OwnerUsage:
    """The use of one owner (`OwnerDay.owner`), in two queries."""
    today = timezone.now().astimezone(UTC).date()
    first, month = today - timedelta(days=DAYS - 1), today.replace(day=1)
    rows = OwnerDay.objects.filter(owner=owner)
    sums = {name: Sum(name) for name in MEASURES}
    by_day = {
        row["day"]: used(row)
        for row in rows.filter(day__gte=min(first, month)).values("day").annotate(**sums).order_by("day")
    }
    days = {day: by_day.get(day, Used()) for day in each_day(first, today)}
    named = Lower(Collate("model", "C"))
    by_model = [
        (row["called"], used(row))
        for row in rows.filter(day__gte=first)
        .values(called=named)
        .annotate(**sums)
        .order_by(F("cost").desc(), "called")[:MODELS]
    ]
    total = sum(days.values(), Used())
    if rest := total.calls - sum(one.calls for _, one in by_model):
        listed = sum((one for _, one in by_model), Used())
        by_model.append(
            ("others", Used(rest, *(getattr(total, name) - getattr(listed, name) for name in MEASURES[1:])))
        )
    return OwnerUsage(days, by_model, sum((one for day, one in by_day.items() if day >= month), Used()), total)


def used(row: Any) -> Used:
    values: dict[str, Any] = {name: row[name] or 0 for name in MEASURES}
    return Used(**values)


def each_day(first: date, last: date) -> Iterator[date]:
    """The days of a range, both ends included."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)
