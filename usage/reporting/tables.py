"""Tables of reports: their columns, and their rows for exports.

for row in rows(asked, user):
    dict(zip([column.key for column in columns(asked, user)], row))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from usage import questions
from usage.paid import sees_costs
from usage.questions import Question
from usage.reporting.asked import Amount, Asked
from usage.reporting.dimensions import ALL, all_names
from usage.reporting.lines import Compared, Reading
from usage.reporting.movers import CAUSES

# `moment`: a time with its zone. `id`: of a row. `text`. `money`: USD, exact. `count`. `percent`. `milliseconds`.
Kind = Literal["moment", "id", "text", "money", "count", "percent", "milliseconds"]

TOKENS = {
    "input_tokens": "Input",
    "cache_read_input_tokens": "Cache read",
    "cache_creation_5m_input_tokens": "Cache write 5 min",
    "cache_creation_1h_input_tokens": "Cache write 1 h",
    "output_tokens": "Output",
    "thinking_tokens": "Thinking (in output)",
    "web_search_requests": "Searches",
}
CATEGORIES = {
    "input": "Input",
    "output": "Output",
    "cache_read": "Cache read",
    "cache_write_5m": "Cache write 5 min",
    "cache_write_1h": "Cache write 1 h",
    "web_search": "Searches",
    "flat": "Per request",
    "rest": "In no category",
}
# Parts of an amount besides its categories.
OF_AMOUNT = {"estimated": "Estimated", "unpriced": "Without a price"}
ERRORS = {
    "our_errors": "Our errors",
    "caller_errors": "Caller’s errors",
    "provider_errors": "Provider’s errors",
}
LATENCIES = {"durations": ("duration", "Duration"), "first_bytes": ("first_byte", "First byte")}
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        key: its name for programs.
        title: its name for people, without the unit.
        unit: of its numbers; empty: none.
        value: of a line.
    """

    key: str
    title: str
    unit: str
    kind: Kind
    value: Callable[[Compared], Any]


def shown_amount(asked: Asked, user: Any) -> Amount:
    """The amount that a person sees: only those who may see prices see what providers charge."""
    return asked.amount if sees_costs(user) else "charge"


def columns(asked: Asked, user: Any) -> list[Column]:
    """The columns of the table that answers this, for this person: period and group first."""
    return [*labels(asked), *numbers(asked, user)]


def labels(asked: Asked) -> Iterator[Column]:
    """The columns of the period and, for each dimension, of its value: of rows, the id and the name."""
    if asked.every:
        yield Column("since", "From", "", "moment", lambda line: line.since.astimezone(asked.zone))
        yield Column("until", "Before", "", "moment", lambda line: line.until.astimezone(asked.zone))
    for at, name in enumerate(asked.by):
        if ALL[name].model is None:
            yield Column(name, ALL[name].title, "", "text", _text(at))
        else:
            yield Column(f"{name}_id", f"{ALL[name].title} id", "", "id", _value(at))
            yield Column(name, ALL[name].title, "", "text", _name(name))


def numbers(asked: Asked, user: Any) -> list[Column]:
    """The columns of numbers."""
    amount = shown_amount(asked, user)
    if asked.show == "movers":
        return [_money(amount, "Amount", amount), *_changes(amount, "Amount", "money"), *map(_cause, CAUSES)]
    if asked.show == "errors":
        found = [_count("calls", "Calls"), *(_count(*each) for each in ERRORS.items())]
        for histogram, (key, title) in LATENCIES.items():
            found += [
                _percentile(histogram, f"{key}_{name}", f"{title} {name}", PERCENTILES[name]) for name in PERCENTILES
            ]
        return found + (_changes("calls", "Calls", "count") if asked.compare else [])
    if asked.show == "money":
        found = [_money(amount, "Amount", amount), *(_part(*each, amount) for each in CATEGORIES.items())]
        found.append(_money("saved", "Saved by caching", "saved"))
        found += [_money(key, title, f"{key}_{amount}") for key, title in OF_AMOUNT.items()]
    else:
        found = [_count("calls", "Calls"), *_amounts(user)]
        found += [_count(*each) for each in TOKENS.items()]
        found.append(_count("estimated_calls", "Estimated calls"))
    return found + (_changes(amount, "Amount", "money") if asked.compare else [])


def _amounts(user: Any) -> list[Column]:
    if sees_costs(user):
        return [_money("cost", "Cost", "cost"), _money("charge", "Charge", "charge")]
    # What owners pay is the only amount that others know.
    return [_money("cost", "Cost", "charge")]


def _value(at: int) -> Callable[[Compared], Any]:
    return lambda line: line.group[at]


def _text(at: int) -> Callable[[Compared], Any]:
    words = {True: "yes", False: "no", "": None}
    return lambda line: words.get(line.group[at], line.group[at])


def _name(name: str) -> Callable[[Compared], Any]:
    return lambda line: line.names.get(name)


def _count(key: str, title: str) -> Column:
    return Column(key, title, "", "count", lambda line: int(line.value(key)))


def _money(key: str, title: str, measure: str) -> Column:
    return Column(key, title, "USD", "money", lambda line: Decimal(line.value(measure)))


def _part(name: str, title: str, amount: str) -> Column:
    return Column(name, title, "USD", "money", lambda line: line.part(name, amount))


def _percentile(histogram: str, key: str, title: str, part: float) -> Column:
    def value(line: Compared) -> int | None:
        found = line.percentile(part, histogram)
        return None if found is None else round(found)

    return Column(key, title, "ms", "milliseconds", value)


def _cause(name: str) -> Column:
    return Column(name, f"By {name}", "USD", "money", lambda line: line.value(name))


def _changes(measure: str, title: str, kind: Literal["count", "money"]) -> list[Column]:
    unit, exact = ("USD", Decimal) if kind == "money" else ("", int)
    return [
        Column("before", f"{title} before", unit, kind, lambda line: exact(line.was(measure))),
        Column("change", "Change", unit, kind, lambda line: exact(line.change(measure))),
        Column("change_percent", "Change", "%", "percent", lambda line: line.percent(measure)),
    ]


def rows(asked: Asked, user: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of the table, without a bound: a value for each column.

    They are read a period, or some keys, at a time, in short statements: nothing is kept open between two rows, and
    memory doesn't grow with the number of rows.

    Raises:
        Unusable: the question can't be answered (usage/questions.py).
    """
    shown = columns(asked, user)
    reading = Reading(asked, asking(user), shown_amount(asked, user), most_rows=None)
    for piece in moved(reading) if asked.show == "movers" else reading.pieces():
        for line in named(asked, piece, whole=True):
            yield tuple(column.value(line) for column in shown)


def moved(reading: Reading) -> Iterator[list[Compared]]:
    """The movers as lines: all groups, those that have changed most first."""
    period = reading.asked.question().periods()[0]
    for each in reading.movers():
        values = {reading.amount: each.now, **each.causes}
        yield [Compared(*period, each.group, values, {reading.amount: each.was})]


def asking(user: Any) -> Callable[[Question], questions.Answer]:
    """Asks what a person may see."""
    return lambda question: questions.ask(question, user)


def named(asked: Asked, found: Sequence[Compared], *, whole: bool = False) -> list[Compared]:
    """Lines with the names of their groups. `whole`: each with the names of its owners."""
    names = all_names(asked.by, {line.group for line in found}, whole=whole)
    at = {name: place for place, name in enumerate(asked.by) if name in names}
    if not at:
        return list(found)
    return [replace(line, names={name: names[name].get(line.group[at[name]]) for name in at}) for line in found]
