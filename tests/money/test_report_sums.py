"""The numbers of reports are the ledger's, in any zone, range and grouping; the causes of a change are the change."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.money.test_questions import DAYS, START, ZONES, cast, facts, filled
from usage.questions import DIMENSIONS, Line
from usage.reporting import tables
from usage.reporting.asked import Amount, Asked
from usage.reporting.lines import Reading
from usage.reporting.movers import CAUSES, QUANTITIES, mover, movers, total
from usage.reporting.ranges import Days, before
from usage.splits import CATEGORIES

__all__ = ["cast", "filled"]

FIRST = START.date() - timedelta(days=1)
days = some.integers(0, DAYS + 1).map(lambda number: FIRST + timedelta(days=number))
NONE = Decimal(0)


@pytest.fixture
def boss(apart: str) -> User:
    return User.objects.create_superuser("boss")


def period(day: date, every: str | None, first: date) -> date:
    """The first day of a day's period, in a range that begins at `first`."""
    if every is None:
        return first
    start = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[every]
    return max(start, first)


def expected(rows: list[dict[str, Any]], asked: Asked) -> dict[Any, list[Any]]:
    """Calls, cost and charge of each period and group, as the ledger says."""
    found: dict[Any, list[Any]] = defaultdict(lambda: [0, NONE, NONE])
    for row in rows:
        day = row["at"].astimezone(asked.zone).date()
        if not asked.days.first <= day <= asked.days.last:
            continue
        if any(row[name] not in values for name, values in asked.where.items()):
            continue
        of = found[period(day, asked.every, asked.days.first), tuple(row[name] for name in asked.by)]
        of[:] = [of[0] + row.get("calls", 0), of[1] + row["cost"], of[2] + row["charge"]]
    return dict(found)


def shown(asked: Asked, values: Any) -> list[Any]:
    return [values.get(name) or 0 for name in ("calls", "cost", "charge")]


def test_lines_and_rows_are_the_sums_of_the_ledger(filled, boss):
    rows = facts()
    values = {name: sorted({row[name] for row in rows}, key=str) for name in DIMENSIONS}

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some.data())
    def ask_one(data: Any) -> None:
        first, last = sorted((data.draw(days), data.draw(days)))
        filtered = data.draw(some.lists(some.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=1))
        asked = Asked(
            Days(first, last),
            ZoneInfo(data.draw(some.sampled_from(ZONES))),
            every=data.draw(some.sampled_from([None, "day", "week", "month"])),
            by=tuple(data.draw(some.lists(some.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=3))),
            where={
                name: tuple(data.draw(some.lists(some.sampled_from(values[name]), min_size=1))) for name in filtered
            },
            compare=data.draw(some.booleans()),
            show=data.draw(some.sampled_from(["usage", "money"])),
        )
        reading = Reading(asked, tables.asking(None), "charge")
        lines = reading.lines()
        by_line = {
            (line.since.astimezone(asked.zone).date(), line.group): shown(asked, line.values)
            for line in lines
            if line.values
        }
        assert by_line == expected(rows, asked)
        if asked.compare:
            was = expected(rows, asked.before)
            beyond = sum((each.get("charge") or NONE for each in reading.beyond), NONE)
            assert sum((line.was("charge") for line in lines), NONE) + beyond == sum(
                (each[2] for each in was.values()), NONE
            )
        for line in lines:
            parts = [line.part(name, "charge") for name in (*CATEGORIES, "rest")] if asked.show == "money" else []
            assert not parts or sum(parts, NONE) == line.value("charge")
        keys = [column.key for column in tables.columns(asked, boss)]
        at = keys.index("charge")
        assert sum((row[at] for row in tables.rows(asked, boss)), NONE) == sum(
            (line.value("charge") for line in lines), NONE
        )

    ask_one()


def test_movers_of_the_ledger_add_up_to_its_change(filled):
    rows = facts()
    asked = Asked(
        Days(date(2026, 3, 1), date(2026, 3, 31)), ZoneInfo("Europe/Berlin"), by=("team", "status"), compare=True
    )
    assert asked.before.days == Days(date(2026, 2, 1), date(2026, 2, 28))
    now, was = expected(rows, asked), expected(rows, asked.before)
    amounts: tuple[tuple[Amount, int], ...] = (("cost", 1), ("charge", 2))
    for amount, at in amounts:
        found = Reading(asked, tables.asking(None), amount).movers()
        assert {each.group: (each.now, each.was) for each in found} == {
            group: (now.get((date(2026, 3, 1), group), [0] * 3)[at], was.get((date(2026, 2, 1), group), [0] * 3)[at])
            for group in {group for _, group in (*now, *was)}
        }
        for each in found:
            assert sum(each.causes.values(), NONE) == each.change


amounts = some.integers(0, 10**15).map(lambda number: Decimal(number).scaleb(-12))
counts = some.integers(0, 10**7) | some.just(0)
splits = some.none() | some.lists(amounts, max_size=len(CATEGORIES))


@some.composite
def sums(draw: Any) -> dict[str, Any]:
    """Sums of a model, whose split may leave a rest."""
    split = draw(splits)
    paid = sum(split or [], NONE) + draw(some.just(NONE) | amounts)
    found = {name: draw(counts) for name in QUANTITIES.values()}
    return found | {"calls": draw(some.integers(0, 1000)), "charge": paid, "charge_split": split}


models = some.dictionaries(some.sampled_from(["a", "b", "c"]), sums())
groups = some.dictionaries(some.sampled_from(["x", "y", "z"]), models)


@given(groups, groups, some.integers(0, 3))
def test_the_causes_of_a_change_are_the_change_to_the_last_digit(now, was, count):
    def lines(of: Any) -> list[Line]:
        return [Line(START, (group, model), each) for group, models in of.items() for model, each in models.items()]

    found = movers(lines(now), lines(was), "charge", count)
    for each in found:
        assert sum(each.causes.values(), NONE) == each.change
    paid = [sum((each["charge"] for models in of.values() for each in models.values()), NONE) for of in (now, was)]
    whole = total(found)
    assert [whole.now, whole.was] == paid
    assert sum(whole.causes.values(), NONE) == paid[0] - paid[1]


def of(tokens: dict[str, int], prices: dict[str, str], calls: int = 10) -> dict[str, Any]:
    """Sums of a model with these tokens, at prices per token."""
    split = [tokens.get(QUANTITIES.get(name, ""), 0) * Decimal(prices.get(name, "0")) for name in CATEGORIES]
    return {**tokens, "calls": calls, "charge": sum(split, NONE), "charge_split": split}


PRICES = {"input": "0.000003", "output": "0.000015", "cache_read": "0.0000003"}
DEARER = {name: str(Decimal(price) * 2) for name, price in PRICES.items()}
PLAIN = {"input_tokens": 1000, "output_tokens": 100}


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        ({"a": of({name: 3 * count for name, count in PLAIN.items()}, PRICES)}, "volume"),
        ({"a": of(PLAIN, DEARER)}, "price"),
        ({"b": of(PLAIN, DEARER)}, "mix"),
        ({"a": of({"input_tokens": 900, "output_tokens": 200}, PRICES)}, "mix"),
        ({"a": of({"input_tokens": 400, "cache_read_input_tokens": 600, "output_tokens": 100}, PRICES)}, "cache"),
    ],
)
def test_each_cause_alone_is_all_of_the_change(now, cause):
    was = {"a": of(PLAIN, PRICES)}
    found = mover((), now, was, "charge")
    assert found.change != 0
    assert found.causes == dict.fromkeys(CAUSES, NONE) | {cause: found.change}


@pytest.mark.parametrize(
    ("first", "last", "length", "was_first", "was_last"),
    [
        ("2026-11-01", "2026-11-30", 0, "2026-10-01", "2026-10-31"),
        ("2026-03-01", "2026-03-31", 1, "2026-02-01", "2026-02-28"),
        ("2026-10-01", "2026-12-31", 3, "2026-07-01", "2026-09-30"),
        ("2026-03-01", "2026-03-30", 1, "2026-02-01", "2026-02-28"),
        ("2026-11-01", "2026-11-10", 1, "2026-10-01", "2026-10-10"),
        ("2026-10-01", "2026-11-10", 3, "2026-07-01", "2026-08-10"),
        ("2026-01-01", "2026-02-10", 12, "2025-01-01", "2025-02-10"),
        ("2026-11-02", "2026-11-08", 0, "2026-10-26", "2026-11-01"),
    ],
)
def test_the_range_before_is_the_month_before_or_as_long(first, last, length, was_first, was_last):
    found = before(Days(date.fromisoformat(first), date.fromisoformat(last)), length)
    assert [found.first.isoformat(), found.last.isoformat()] == [was_first, was_last]
