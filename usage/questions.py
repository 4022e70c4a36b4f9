"""Questions about usage, and their answers: sums of calls, tokens, money and latencies over any range, in any time
zone, by hour, day, week or month, grouped and filtered by any dimensions. docs/rollups.md describes them.

An answer is read from the level with the fewest rows that has the dimensions (usage/levels.py), put together from the
coarsest periods that fit (usage/covering.py). It equals the sum of the ledger, up to the last roll-up, exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Collate, Lower

from keys import patterns
from keys.errors import Unusable
from keys.model_names import fold
from keys.visibility import visible
from usage.covering import GRAINS, QUARTER, Piece, beginning, cover, merged
from usage.levels import LEVELS, TABLE, Level, SummedPeriod
from usage.measures import ALL_MEASURES, ARRAYS, HISTOGRAMS, percentile, sum_of
from usage.models import Rollup, RollupState
from usage.splits import CATEGORIES

Every = Literal["hour", "day", "week", "month"]

# What an answer can be grouped and filtered by, with its column.
DIMENSIONS = {
    "customer": "customer_id",
    "team": "team_id",
    "key": "virtual_key_id",
    "cost_centre": "cost_centre",
    "project": "project",
    "provider": "provider",
    "provider_key": "provider_key_id",
    "model": "model",
    "service_tier": "service_tier",
    "speed": "speed",
    "status": "status",
    "stream": "stream",
}
# The rows that a page may read for one answer.
MOST_ROWS = 100_000
# The same folding as keys.model_names.fold: the ledger keeps a model's name as it was written.
FOLDED_MODEL = Lower(Collate("model", "C"))
SCOPES = ("customer_id", "team_id", "virtual_key_id")
# While the ledger is summed again, an answer may have to be read once more.
TRIES = 5


class TooManyRows(Unusable):
    """The answer would read more rows than a page may."""


class NotWholeYet(Unusable):
    """Roll-ups of the range are still those of an earlier version; `since`: from when on they are whole."""

    def __init__(self, since: datetime) -> None:
        super().__init__(
            f"the usage before {since:%Y-%m-%d %H:%M} UTC is being summed by more dimensions: ask for a later range, "
            "or try again in a few minutes"
        )
        self.since = since


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        since, until: the range, `until` excluded: moments at quarters of an hour. `of_days` makes them of days.
        zone: in which hours, days, weeks (from Monday) and months begin.
        every: a line for each of these; None: the range as a whole.
        by: the dimensions that a line is for each value of.
        where: for dimensions, the values that count; None among them: calls without one.
        models: a pattern of models, such as `claude-*`, in any case; empty: all.
        measures: those that are read (usage/measures.py).
        most_rows: how many rows may be read; None: any number, for exports.
    """

    since: datetime
    until: datetime
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    every: Every | None = None
    by: tuple[str, ...] = ()
    where: Mapping[str, Collection[Any]] = field(default_factory=dict)
    models: str = ""
    measures: tuple[str, ...] = ALL_MEASURES
    most_rows: int | None = MOST_ROWS

    def check(self) -> None:
        """Check that it can be answered.

        Raises:
            Unusable: with what is wrong.
        """
        unknown = [name for name in (*self.by, *self.where) if name not in DIMENSIONS]
        if unknown:
            raise Unusable(f"there is no dimension “{unknown[0]}”: choose {', '.join(DIMENSIONS)}")
        unknown = [name for name in self.measures if name not in ALL_MEASURES]
        if unknown:
            raise Unusable(f"there is no measure “{unknown[0]}”: choose {', '.join(ALL_MEASURES)}")
        if self.since.tzinfo is None or self.until.tzinfo is None:
            raise Unusable("a moment needs a time zone: give each end of the range one")
        if self.until < self.since:
            raise Unusable("the range ends before it starts: choose an earlier start or a later end")
        if any(each != beginning(each, "quarter") for each in (self.since, self.until)):
            raise Unusable("a range begins and ends at a quarter of an hour: choose another time")

    @property
    def needs(self) -> set[str]:
        """The columns that it is grouped and filtered by."""
        return {DIMENSIONS[name] for name in (*self.by, *self.where)} | ({"model"} if self.models else set())

    def periods(self) -> list[tuple[datetime, datetime]]:
        """The beginning and the end (UTC) of each period of the range, cut to the range."""
        if self.every is None:
            return [(self.since.astimezone(UTC), self.until.astimezone(UTC))]
        edges = [self.since.astimezone(UTC), *boundaries(self.since, self.until, self.zone, self.every)]
        return [(one, other) for one, other in zip(edges, [*edges[1:], self.until.astimezone(UTC)], strict=True)]


def of_days(first: date, last: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The beginning and the end of a range of days, the last one included, in a time zone."""
    return midnight(first, zone), midnight(last + timedelta(days=1), zone)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day in a time zone, in UTC. Where clocks skip midnight, it is the moment after the gap."""
    first = datetime.combine(day, time(), zone).astimezone(UTC)
    return first if first.astimezone(zone).date() == day else first + timedelta(hours=1)


def boundaries(since: datetime, until: datetime, zone: ZoneInfo, every: Every) -> Iterator[datetime]:
    """Where hours, days, weeks or months of a time zone begin between two moments, both excluded, in UTC."""
    if every == "hour":
        # An hour begins where clocks say so, which is at half past in some zones; at a change of clocks, too.
        moment = beginning(since, "quarter")
        while (moment := moment + QUARTER) < until:
            if moment.astimezone(zone).minute == 0:
                yield moment
        return
    day = since.astimezone(zone).date()
    while (first := midnight(day := _next(day, every), zone)) < until:
        if first > since:
            yield first


def _next(day: date, every: Every) -> date:
    """The first day of the next period."""
    if every == "day":
        return day + timedelta(days=1)
    if every == "week":
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Line:
    """The sums of a group, and of a period if there are several.

    Attributes:
        since: the beginning of the period (UTC).
        group: the value of each dimension that the question groups by; models in small letters, objects as ids.
        values: the sums by measure. `cost_split` and `charge_split` are lists by `CATEGORIES`, histograms by class.
    """

    since: datetime
    group: tuple[Any, ...]
    values: Mapping[str, Any]

    def split(self, amount: Literal["cost", "charge"] = "charge") -> dict[str, Decimal]:
        """An amount by category, with the `rest` that belongs to none: the parts are the amount, to the last digit."""
        found = self.values[f"{amount}_split"] or ()
        parts = {name: part or Decimal(0) for name, part in zip(CATEGORIES, found, strict=False)}
        parts = {name: parts.get(name, Decimal(0)) for name in CATEGORIES}
        return parts | {"rest": self.values[amount] - sum(parts.values())}

    def percentile(self, part: float, histogram: str = "durations") -> float | None:
        """A percentile of a latency in milliseconds; None: no call was timed."""
        return percentile(self.values[histogram], part)


@dataclass(frozen=True, slots=True)
class Answer:
    """The lines, by period and group; `rows`: how many were read; `level`: of which level of dimensions."""

    lines: list[Line]
    rows: int
    level: str


@dataclass(frozen=True, slots=True)
class Source:
    """Levels of the same dimensions, by grain; None: `usage_rollup`."""

    name: str
    dimensions: Collection[str]
    levels: Mapping[str, Level | None]


def _source(by: str) -> Source:
    levels = {level.grain: level for level in LEVELS if level.by == by}
    dimensions = next(iter(levels.values())).dimensions
    return Source(by, dimensions, {"quarter": None} | {grain: levels[grain] for grain in GRAINS if grain in levels})


# Those with the fewest rows first.
SOURCES = tuple(_source(by) for by in ("model", "owner", "total", "group", "caller", "key"))


def ask(question: Question, user: Any = None) -> Answer:
    """The answer, of what a person may see; without a person, of everything.

    Raises:
        Unusable: the question can't be answered (`Question.check`).
        TooManyRows: the answer would read more than `most_rows`.
        NotWholeYet: the range isn't rolled up by all dimensions yet.
    """
    question.check()
    for _ in range(TRIES):
        state = whole(question)
        answer = _answer(question, user)
        # Between the plan and its rows, a month may have been deleted to be summed again.
        if RollupState.objects.filter(rebuilt=state.rebuilt).exists():
            return answer
    raise Unusable("the ledger is being summed again: try again in a few minutes")


def whole(question: Question) -> RollupState:
    """The state of the roll-ups, where they have what is asked.

    Raises:
        NotWholeYet: the range isn't rolled up by all dimensions yet.
    """
    state = RollupState.objects.get()
    if state.whole_since is not None and question.since < state.whole_since:
        raise NotWholeYet(state.whole_since)
    return state


def _answer(question: Question, user: Any) -> Answer:
    try:
        return _sum(question, Rollup.objects.all() if user is None else visible(user, Rollup.objects.all()))
    except EmptyResultSet:  # the person sees nothing, or no value of a dimension counts
        return Answer([], 0, "")


def _sum(question: Question, rows: Any) -> Answer:
    """The answer, of these roll-ups.

    Raises:
        EmptyResultSet: no row can be one of these.
    """
    scope = rows.query.sql_with_params()[0].partition(" WHERE ")[2]
    needs = question.needs | {name for name in SCOPES if f'"{name}"' in scope}
    source = next(each for each in SOURCES if needs <= set(each.dimensions))
    periods = question.periods()
    plan = _plan(source, periods)
    if not plan:
        return Answer([], 0, source.name)
    selected, parameters = _selected(question, rows, source, plan)
    groups = ", ".join(f"f.{DIMENSIONS[name]}" for name in question.by)
    sums = ", ".join(f"{sum_of(name, 'f.sign * ')} AS {name}" for name in question.measures)
    places = ", ".join(str(number) for number in range(1, len(question.by) + 2))
    limit = "" if question.most_rows is None else f"LIMIT {question.most_rows + 1}"
    statement = (
        f"SELECT f.period{', ' if groups else ''}{groups}, {sums}, count(*) FROM ({selected} {limit}) AS f "  # noqa: S608
        f"GROUP BY {places} ORDER BY {places}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found = cursor.fetchall()
    count = sum(row[-1] for row in found)
    if question.most_rows is not None and count > question.most_rows:
        raise TooManyRows(
            f"the answer would add up more than {question.most_rows:,} sums: choose a shorter range, longer periods, "
            "or fewer groups"
        )
    return Answer(list(_lines(question, periods, found)), count, source.name)


def _plan(source: Source, periods: Sequence[tuple[datetime, datetime]]) -> dict[str, list[tuple[int, Piece]]]:
    """The pieces of each grain, with the number of their period."""
    names = {grain: level.name for grain, level in source.levels.items() if level is not None and level.has_periods}
    has = set(SummedPeriod.objects.filter(level__in=names.values()).values_list("level", "start"))
    plan: dict[str, list[tuple[int, Piece]]] = {}
    for number, (since, until) in enumerate(periods):
        pieces = cover(
            since, until, list(source.levels), lambda grain, start: grain not in names or (names[grain], start) in has
        )
        for piece in merged(pieces):
            plan.setdefault(piece.grain, []).append((number, piece))
    return plan


def _selected(
    question: Question, rows: Any, source: Source, plan: Mapping[str, Sequence[tuple[int, Piece]]]
) -> tuple[str, list[Any]]:
    """The rows that an answer sums, each with its period and sign, as SQL with parameters."""
    rows = rows.annotate(folded=FOLDED_MODEL).filter(_filters(question)).order_by()
    columns = list(dict.fromkeys((*(DIMENSIONS[name] for name in question.by), *_columns(question.measures))))
    parts, parameters = [], []
    for grain, pieces in plan.items():
        level = source.levels[grain]
        table = "usage_rollup" if level is None else TABLE
        within = f"{table}.bucket >= s.since AND {table}.bucket < s.until"
        if level is not None:
            within = f"{table}.level = '{level.name}' AND {within}"
        inner, given = rows.extra(where=[within]).values_list(*columns).query.sql_with_params()  # noqa: S610
        listed = ", ".join(
            'lower(f.model COLLATE "C") AS model' if name == "model" else f"f.{name}" for name in columns
        )
        parts.append(
            f"SELECT s.period, s.sign, {listed} FROM unnest(%s::timestamptz[], %s::timestamptz[], %s::integer[], "  # noqa: S608
            "%s::integer[]) AS s (since, until, period, sign) CROSS JOIN LATERAL "
            f"({inner.replace(chr(34) + 'usage_rollup' + chr(34), chr(34) + table + chr(34))}) AS f"
        )
        parameters += [
            [piece.since for _, piece in pieces],
            [piece.until for _, piece in pieces],
            [number for number, _ in pieces],
            [piece.sign for _, piece in pieces],
            *given,
        ]
    return " UNION ALL ".join(parts), parameters


def _columns(measures: Collection[str]) -> list[str]:
    return list(dict.fromkeys((*measures, *(["cost"] if "charge" in measures else []))))


def _filters(question: Question) -> Q:
    """The condition on rows, of which `folded` is the model."""
    found = Q(folded__regex=patterns.as_regex(question.models)) if question.models else Q()
    for name, values in question.where.items():
        column = "folded" if name == "model" else DIMENSIONS[name]
        one = Q(
            **{f"{column}__in": [fold(value) if name == "model" else value for value in values if value is not None]}
        )
        found &= one | Q(**{f"{column}__isnull": True}) if None in values else one
    return found


def _lines(
    question: Question, periods: Sequence[tuple[datetime, datetime]], rows: Sequence[tuple[Any, ...]]
) -> Iterator[Line]:
    """The lines that have something: what was taken away of all that a group has leaves nothing."""
    width = len(question.by) + 1
    whole = [at for at, name in enumerate(question.measures) if name not in ARRAYS]
    for number, *rest in rows:
        group, values = tuple(rest[: width - 1]), rest[width - 1 : -1]
        if whole and not any(values[at] for at in whole):
            continue
        named = {
            name: value if name not in HISTOGRAMS or value is None else [int(each or 0) for each in value]
            for name, value in zip(question.measures, values, strict=True)
        }
        yield Line(periods[number][0], group, named)
