"""Lines of a report: the sums of a group and a period, beside those of the range before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import zip_longest
from typing import Any

from usage.measures import MEASURES, percentile
from usage.questions import MOST_ROWS, Answer, Line, Question
from usage.reporting.asked import Amount, Asked
from usage.reporting.categories import OF_PRICE, PRICED, by_group, input_price, parts
from usage.reporting.movers import MEASURES as MOVING
from usage.reporting.movers import Mover, movers

Ask = Callable[[Question], Answer]
# The keys of which one question reads the sums, where nothing else makes answers short.
KEYS = 500
ERRORS = ("our_errors", "caller_errors", "provider_errors")
HISTOGRAMS = ("durations", "first_bytes")
MEASURED = {
    "usage": MEASURES,
    "money": PRICED,
    "errors": ("calls", *ERRORS, "timed_calls", *HISTOGRAMS),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """A line, and the same of the range before.

    Attributes:
        since, until: its period (UTC).
        values: the sums by measure; empty: there was nothing.
        before: the same of the range before; None: it isn't compared.
        names: of its group, by dimension.
    """

    since: datetime
    until: datetime
    group: tuple[Any, ...]
    values: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    names: Mapping[str, str | None] = field(default_factory=dict)

    def value(self, measure: str) -> Any:
        """A sum; 0 where there was nothing."""
        return self.values.get(measure) or 0

    def was(self, measure: str) -> Any:
        """The sum of the range before."""
        return (self.before or {}).get(measure) or 0

    def change(self, measure: str) -> Any:
        """By how much a sum is above that of the range before."""
        return self.value(measure) - self.was(measure)

    def percent(self, measure: str) -> Decimal | None:
        """The change in percent; None where there was nothing before."""
        was = self.was(measure)
        return Decimal(self.change(measure)) / Decimal(was) * 100 if was else None

    def part(self, category: str, amount: str) -> Decimal:
        """An amount's part by category, or the `rest` that belongs to none."""
        return parts(self.values, amount)[category]

    def percentile(self, part: float, histogram: str) -> float | None:
        """A percentile of a latency in milliseconds."""
        return percentile(self.values.get(histogram), part)


class Reading:
    """Reads the sums that a report shows.

    Args:
        ask: answers questions, for the person.
        amount: the amount that the person sees.
        most_rows: that may be read for one question; None: any number, for exports.
    """

    def __init__(self, asked: Asked, ask: Ask, amount: Amount, most_rows: int | None = MOST_ROWS) -> None:
        self.asked, self.ask, self.amount, self.most_rows = asked, ask, amount, most_rows
        # The sums of periods of the range before that no line is compared with.
        self.beyond: list[Mapping[str, Any]] = []

    def sums(self, asked: Asked, **changes: Any) -> list[Line]:
        """The lines of a range.

        Args:
            changes: of the question's attributes.
        """
        measures = MEASURED.get(asked.show, MEASURES)
        if asked.show == "money":
            # What caching saved is known by model.
            return by_group(self.by_model(asked, measures, **changes), self.amount, self.prices)
        return self.ask(asked.question(measures, most_rows=self.most_rows, **changes)).lines

    def by_model(self, asked: Asked, measures: Sequence[str], **changes: Any) -> Iterator[Line]:
        """The lines of a range by model, too: it is the last dimension, though it may be another one already."""
        by = asked.by if "model" in asked.by else (*asked.by, "model")
        at = by.index("model")
        found = self.ask(asked.question(measures, most_rows=self.most_rows, **changes, by=by))
        for line in found.lines:
            yield line if by != asked.by else Line(line.since, (*line.group, line.group[at]), line.values)

    def movers(self, shown: int | None = None) -> list[Mover]:
        """The groups, those that have changed most first; after `shown` of them, all others as one."""
        now, was = (self.by_model(each, MOVING, every=None) for each in (self.asked, self.asked.before))
        return movers(now, was, self.amount, shown)

    @cached_property
    def prices(self) -> dict[str, Decimal | None]:
        """What a token of input cost in the range, by model."""
        question = self.asked.question(OF_PRICE, most_rows=self.most_rows, every=None, by=("model",))
        return {line.group[0]: input_price(line.values, self.amount) for line in self.ask(question).lines}

    def lines(self) -> list[Compared]:
        """The lines of a page: those of each period at once.

        A period is compared with the one that has the same number in the range before. Where that has more periods,
        the sums of those are in no line.
        """
        periods = self.asked.question().periods()
        now = _numbered(self.sums(self.asked), periods)
        if not self.asked.compare:
            return [Compared(*periods[number], group, values) for (number, group), values in now.items()]
        before = self.asked.before
        was = _numbered(self.sums(before), before.question().periods())
        self.beyond = [was.pop(key) for key in list(was) if key[0] >= len(periods)]
        both = {**now, **was}
        return [
            Compared(*periods[number], group, now.get((number, group), {}), was.get((number, group), {}))
            for number, group in both
        ]

    def pieces(self) -> Iterator[list[Compared]]:
        """All lines, a period or some keys at a time: no more of them are in memory."""
        asked, before = self.asked, self.asked.before
        periods = asked.question().periods()
        if asked.every:
            earlier = before.question().periods() if asked.compare else []
            for now, was in zip_longest(periods, earlier[: len(periods)]):
                sums = self.sums(asked, since=now[0], until=now[1], every=None)
                sums_before = self.sums(before, since=was[0], until=was[1], every=None) if was else []
                yield self._merged(now, sums, sums_before)
            return
        for where in self._parts():
            sums_before = self.sums(before, where=where) if asked.compare else []
            yield self._merged(periods[0], self.sums(asked, where=where), sums_before)

    def _parts(self) -> Iterator[Mapping[str, Any]]:
        """Filters that part what is asked."""
        if "key" not in self.asked.by:
            yield self.asked.where
            return
        keys = set[int]()
        for asked in (self.asked, self.asked.before) if self.asked.compare else (self.asked,):
            question = asked.question(("calls",), most_rows=self.most_rows, by=("key",))
            keys |= {line.group[0] for line in self.ask(question).lines}
        in_order = sorted(keys)
        for at in range(0, len(in_order), KEYS):
            yield {**self.asked.where, "key": in_order[at : at + KEYS]}

    def _merged(self, period: tuple[datetime, datetime], now: Iterable[Line], was: Iterable[Line]) -> list[Compared]:
        of = {line.group: line.values for line in now}
        if not self.asked.compare:
            return [Compared(*period, group, values) for group, values in of.items()]
        before = {line.group: line.values for line in was}
        return [Compared(*period, group, of.get(group, {}), before.get(group, {})) for group in {**of, **before}]


def _numbered(
    found: Sequence[Line], periods: Sequence[tuple[datetime, datetime]]
) -> dict[tuple[int, tuple[Any, ...]], Mapping[str, Any]]:
    numbers = {since: number for number, (since, _) in enumerate(periods)}
    return {(numbers[line.since], line.group): line.values for line in found}
