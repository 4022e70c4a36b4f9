"""The table of a usage report as its page shows it: rows of cells, each number with its link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from administration.usage_report import words
from administration.usage_report.links import Links
from usage.reporting.asked import Asked
from usage.reporting.dimensions import ALL, in_words
from usage.reporting.lines import Compared
from usage.reporting.movers import CAUSES, Mover
from usage.reporting.tables import ERRORS, Column, numbers

# Lines of a page; an export has all.
LINES = 200
# Columns that are shown even if all their numbers are 0.
ALWAYS = ("calls", "cost", "charge", "before", "change", "change_percent", "saved", *ERRORS)
# Columns of some of the calls only, with the filter of these.
OF_SOME = {
    "our_errors": {"whose": "ours"},
    "caller_errors": {"whose": "callers"},
    "provider_errors": {"whose": "theirs"},
    "estimated": {"price": "estimated"},
    "estimated_calls": {"price": "estimated"},
    "unpriced": {"price": "unpriced"},
}
# Numbers of the range before, and those of both ranges, which have no calls of their own.
BEFORE, OF_BOTH = "before", ("change", "change_percent", *CAUSES)
# What stands first, and what is left out first where there is no room for all.
FIRST = ("calls", "cost", "charge", BEFORE, "change", "change_percent")
SELDOM = (
    *("thinking_tokens", "web_search_requests", "estimated_calls"),
    *("cache_creation_1h_input_tokens", "cache_creation_5m_input_tokens", "cache_read_input_tokens"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a link, which may be empty. `again`: the row has a cell with the same link before."""

    text: str
    url: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The title of a column of numbers, and their unit."""

    title: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Titles of the columns of labels, heads of those of numbers, rows and the total.

    Attributes:
        count: all rows that there are.
        left_out: columns for which there is no room.
    """

    titles: list[str]
    heads: list[Head]
    rows: list[tuple[list[Cell], list[Cell]]]
    total: list[Cell] = field(default_factory=list)
    count: int = 0
    left_out: int = 0


def table(
    asked: Asked,
    user: Any,
    lines: Sequence[Compared],
    total: Compared,
    links: Links,
) -> Table:
    """The table of lines that are in order."""
    periods = earlier_periods(asked)
    titles = [PERIODS[asked.every]] if asked.every else []
    titles += [ALL[name].title for name in asked.by] or ([] if asked.every else ["Range"])
    every = used(numbers(asked, user), lines)
    columns = fitting(every, len(titles))
    rows = []
    for line in lines[:LINES]:
        rows.append((labels(asked, line, links), _cells(columns, line, links, periods.get(line.since))))
    heads = [Head(column.title, column.unit) for column in columns]
    return Table(
        titles, heads, rows, _cells(columns, total, links, earlier_range(asked)), len(lines), len(every) - len(columns)
    )


PERIODS = {"hour": "Hour", "day": "Day", "week": "Week", "month": "Month"}
Period = tuple[Any, Any]


def earlier_range(asked: Asked) -> Period | None:
    """The range before."""
    question = asked.before.question()
    return (question.since, question.until) if asked.compare else None


def earlier_periods(asked: Asked) -> dict[Any, Period]:
    """The period that each is compared with, by its beginning."""
    if not asked.compare:
        return {}
    now, was = asked.question().periods(), asked.before.question().periods()
    return {one[0]: other for one, other in zip(now, was, strict=False)}


def used(columns: Sequence[Column], lines: Sequence[Compared]) -> list[Column]:
    """The columns that say something: without those that are 0 everywhere, and without a charge that is the cost. What
    has changed stands beside the amounts."""
    found = [column for column in columns if column.key in ALWAYS or any(column.value(line) for line in lines)]
    by_key = {column.key: column for column in found}
    if {"cost", "charge"} <= by_key.keys():
        cost, charge = by_key["cost"], by_key["charge"]
        if all(cost.value(line) == charge.value(line) for line in lines):
            found.remove(charge)
    return sorted(found, key=lambda column: FIRST.index(column.key) if column.key in FIRST else len(FIRST))


def fitting(columns: Sequence[Column], labels: int) -> list[Column]:
    """The columns for which a window of 1,280 pixels has room beside this number of labels. Exports have all."""
    too_many = max(0, len(columns) - (13 - labels * 3 // 2))
    keys = [column.key for column in columns]
    left_out = [name for name in SELDOM if name in keys][:too_many]
    return [column for column in columns if column.key not in left_out]


def labels(asked: Asked, line: Compared, links: Links) -> list[Cell]:
    """The period and the group of a line."""
    found = [Cell(words.period(line.since, asked.every, asked.zone))] if asked.every else []
    found += group_labels(asked, line.group, line.names, links)
    return found or [Cell("All calls")]


def group_labels(asked: Asked, group: tuple[Any, ...], names: Mapping[str, str | None], links: Links) -> list[Cell]:
    """The values of a group, each with the report that is narrowed to it."""
    return [
        Cell(names.get(name) or in_words(name, group[at], {}), links.within(group, at))
        for at, name in enumerate(asked.by)
    ]


def name_of(asked: Asked) -> Callable[[Compared], str]:
    """What a chart calls a line: its whole group; where there are periods, its first value."""

    def name(line: Compared) -> str:
        shown = asked.by[:1] if asked.every else asked.by
        return (
            " · ".join(line.names.get(each) or in_words(each, line.group[at], {}) for at, each in enumerate(shown))
            or "all calls"
        )

    return name


def _cells(columns: Sequence[Column], line: Compared, links: Links, earlier: Period | None) -> list[Cell]:
    found: list[Cell] = []
    own = links.calls((line.since, line.until), line.group) if line.values else ""
    seen = set[str]()
    for column in columns:
        value = column.value(line)
        url = own if value else ""
        if column.key in OF_SOME and value:
            url = links.calls((line.since, line.until), line.group, **OF_SOME[column.key])
        elif column.key == BEFORE:
            url = links.calls(earlier, line.group) if earlier and value else ""
        elif column.key in OF_BOTH:
            url = ""
        found.append(Cell(words.number(value, column.kind), url, url in seen))
        seen.add(url)
    return found


def mover_cells(mover: Mover, links: Links, now: Period, was: Period) -> list[Cell]:
    """The numbers of a mover: now, before, the change, and its causes. Those of many groups have no link."""
    one = mover.count == 1
    return [
        Cell(words.number(mover.now, "money"), links.calls(now, mover.group) if one and mover.now else ""),
        Cell(words.number(mover.was, "money"), links.calls(was, mover.group) if one and mover.was else ""),
        Cell(signed(mover.change)),
        Cell(words.percent(mover.percent)),
        *(Cell(signed(mover.causes[name])) for name in CAUSES),
    ]


def signed(amount: Any) -> str:
    """A change of money, with its sign."""
    return f"{'+' if amount > 0 else ''}{words.number(amount, 'money')}"
