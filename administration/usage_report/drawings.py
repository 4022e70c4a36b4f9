"""The charts of the usage report, each made of the lines of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from administration.charts import Chart, Series
from administration.usage_report import words
from usage.reporting.asked import Asked
from usage.reporting.lines import Compared
from usage.reporting.movers import Mover
from usage.reporting.tables import CATEGORIES, ERRORS

# Series of groups; the others are added up into one more. Groups with a bar each.
SERIES, BARS = 7, 30
FAULTS = {"our_errors": "ours", "caller_errors": "callers", "provider_errors": "theirs"}
Label = Callable[[Compared], str]
Value = Callable[[Compared], Any]


def of_groups(asked: Asked, lines: Sequence[Compared], label: Label, amount: str) -> Chart:
    """What each period cost, by the first group; without periods, what each group cost."""
    if not asked.every:
        return of_parts(asked, lines, label, {"amount": ("Amount", lambda line: line.value(amount))})
    costs: dict[str, dict[datetime, Decimal]] = {}
    for line in lines:
        of = costs.setdefault(label(line) if asked.by else "Amount", {})
        of[line.since] = of.get(line.since, Decimal(0)) + line.value(amount)
    names = sorted(costs, key=lambda name: -sum(costs[name].values()))
    periods = [since for since, _ in asked.question().periods()]
    shown = len(names) if len(names) == SERIES + 1 else SERIES
    series = [_series(name, f"s{number}", costs[name], periods) for number, name in enumerate(names[:shown])]
    if others := names[shown:]:
        rest = {when: sum((costs[name].get(when, Decimal(0)) for name in others), Decimal(0)) for when in periods}
        series.append(_series(f"{len(others)} others", "others", rest, periods))
    return Chart("Amount", _labels(asked, periods), series, money=True)


def _series(name: str, kind: str, costs: Mapping[datetime, Decimal], periods: Sequence[datetime]) -> Series:
    return Series(name, kind, [costs.get(when, Decimal(0)) for when in periods])


def _labels(asked: Asked, periods: Sequence[datetime]) -> list[str]:
    return [words.period(since, asked.every or "day", asked.zone, short=True) for since in periods]


def of_parts(
    asked: Asked,
    lines: Sequence[Compared],
    label: Label,
    parts: Mapping[str, tuple[str, Value]],
    *,
    money: bool = True,
) -> Chart:
    """A bar for each period, or for each group without periods, made of parts.

    Args:
        parts: the title and the value of each, by its kind.
    """
    keys: list[Any] = [since for since, _ in asked.question().periods()] if asked.every else []
    labels = _labels(asked, keys)
    if not asked.every:
        keys = [line.group for line in lines[:BARS]]
        labels = [label(line) for line in lines[:BARS]]
    sums: dict[Any, dict[str, Any]] = {each: dict.fromkeys(parts, Decimal(0) if money else 0) for each in keys}
    for line in lines:
        of = sums.get(line.since if asked.every else line.group, {})
        for kind in of:
            of[kind] += parts[kind][1](line)
    series = [Series(title, kind, [sums[each][kind] for each in keys]) for kind, (title, _) in parts.items()]
    title = "Amount" if money else "Calls that went wrong"
    return Chart(title, labels, [each for each in series if any(each.values)], money=money)


def of_categories(asked: Asked, lines: Sequence[Compared], label: Label, amount: str) -> Chart:
    """What each category cost."""
    parts = {f"s{number}": (title, _part(name, amount)) for number, (name, title) in enumerate(CATEGORIES.items())}
    return of_parts(asked, lines, label, parts)


def _part(name: str, amount: str) -> Value:
    return lambda line: line.part(name, amount)


def of_errors(asked: Asked, lines: Sequence[Compared], label: Label) -> Chart:
    """Calls that went wrong, by whose fault it was."""
    parts = {FAULTS[name]: (title, _count(name)) for name, title in ERRORS.items()}
    return of_parts(asked, lines, label, parts, money=False)


def _count(name: str) -> Value:
    return lambda line: int(line.value(name))


def of_changes(movers: Sequence[Mover], label: Callable[[Mover], str]) -> Chart:
    """What each group costs more or less than before."""
    more = [max(each.change, Decimal(0)) for each in movers]
    less = [min(each.change, Decimal(0)) for each in movers]
    series = [Series("more than before", "more", more), Series("less than before", "less", less)]
    return Chart("Change", [label(each) for each in movers], series, money=True)
