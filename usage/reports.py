"""The usage report: calls, tokens, cost and charge over a range of days (UTC), read from the roll-ups only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Collate, Lower, TruncDate, TruncMonth
from django.utils import timezone

from keys import patterns, viewer
from keys.csv_lines import BYTE_ORDER_MARK, csv_line
from keys.models import Customer, Team, VirtualKey
from keys.pickers import Picker, limit
from keys.visibility import visible
from usage import amounts
from usage.models import OWED, DayTotal, Rollup
from usage.paid import sees_costs
from usage.totals import sees_all

# Lines on a page; the CSV has all.
LINES = 500
# Series in the chart; the others are added up into one more.
SERIES = 7
# For a longer range, the chart has a bar per month instead of one per day.
DAYS_IN_CHART = 92
MOST_DAYS = 3660
# The same folding as keys.model_names.fold.
FOLDED_MODEL = Lower(Collate("model", "C"))


@dataclass(frozen=True, slots=True)
class Grouping:
    """What a report can be grouped by.

    Attributes:
        by: the field that identifies a group; its value is None where a call has none, such as a call without a team.
        names: the fields that make up a group's name.
        more: fields that are added to the names if several groups have the same name.
    """

    title: str
    by: str
    names: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that the report has to read."""
        return (self.by, *self.names, *self.more)


# Names aren't unique: two customers may have teams with the same name, and two teams keys with the same name.
GROUPS: dict[str, Grouping] = {
    "day": Grouping("Day", "day"),
    "customer": Grouping("Customer", "customer_id", ("customer__name",)),
    "team": Grouping("Team", "team_id", ("team__customer__name", "team__name")),
    "key": Grouping(
        "Key",
        "virtual_key_id",
        ("virtual_key__name",),
        ("virtual_key__customer__name", "virtual_key__team__name"),
    ),
    # The ledger keeps a model's name as the client wrote it, so the report groups by its folded form.
    "model": Grouping("Model", "folded_model"),
    "provider_key": Grouping("Provider key", "provider_key_id", ("provider_key__name",)),
    "status": Grouping("Status", "status"),
}
# What the totals of days can be grouped by.
WITHOUT_CALLERS = frozenset({"day", "model", "provider_key", "status"})
NOTHING = "–"

MEASURES = {
    "calls": "Calls",
    "cost": "Cost, USD",
    # What owners pay; it is shown where it isn't the cost.
    "charge": "Charge, USD",
    "input_tokens": "Input",
    "cache_read_input_tokens": "Cache read",
    "cache_creation_5m_input_tokens": "Cache write 5 min",
    "cache_creation_1h_input_tokens": "Cache write 1 h",
    "output_tokens": "Output",
    "thinking_tokens": "Thinking (in output)",
    "web_search_requests": "Searches",
    "estimated_calls": "Estimated calls",
}


class DayInput(forms.DateInput):
    """A date field that uses the browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class DayField(forms.DateField):
    """A day in the years that the gateway can know. The days beside it exist, and so do their times in every zone."""

    FIRST, LAST = date(2000, 1, 1), date(9000, 12, 31)

    def __init__(self, **options: Any) -> None:
        bounds = [MinValueValidator(self.FIRST), MaxValueValidator(self.LAST)]
        super().__init__(widget=DayInput, validators=bounds, **options)


class ReportForm(forms.Form):
    """The report's range, grouping and filters. Empty fields mean: this month, by day, all calls."""

    since = forms.DateField(label="From", required=False, widget=DayInput)
    until = forms.DateField(label="To", required=False, widget=DayInput, help_text="including this day")
    group = forms.MultipleChoiceField(
        label="Group by",
        required=False,
        choices=[(name, group.title) for name, group in GROUPS.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    customer = Picker(Rollup._meta.get_field("customer"), Customer.objects.all())
    team = Picker(Rollup._meta.get_field("team"), Team.objects.all())
    key = Picker(Rollup._meta.get_field("virtual_key"), VirtualKey.objects.select_related("customer", "team"))
    model = forms.CharField(
        required=False, max_length=200, validators=[patterns.check], help_text="a name or a pattern, such as claude-*"
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        """A form whose filters offer only what this person may see."""
        super().__init__(*args, **kwargs)
        limit(self.fields.values(), user)

    def clean(self) -> dict[str, Any]:
        """Fill in defaults, and check the range.

        Raises:
            ValidationError: the range ends before it starts, or is longer than ten years.
        """
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        today = timezone.now().astimezone(UTC).date()
        cleaned["until"] = cleaned["until"] or max(today, cleaned["since"] or today)
        cleaned["since"] = cleaned["since"] or cleaned["until"].replace(day=1)
        cleaned["group"] = cleaned["group"] or ["day"]
        if cleaned["until"] < cleaned["since"]:
            raise forms.ValidationError("The range ends before it starts: choose an earlier start or a later end.")
        if cleaned["until"] - cleaned["since"] > timedelta(days=MOST_DAYS) or cleaned["until"].year > 9000:
            raise forms.ValidationError("The range is longer than ten years: choose a shorter one.")
        return cleaned


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One group of a report: its labels (None where calls have none), a number for each measure of the report, and the
    values that the group is made by, such as ids."""

    labels: tuple[str | None, ...]
    values: tuple[Any, ...]
    by: tuple[Any, ...] = ()

    def said(self) -> list[str]:
        """The labels for display."""
        return [NOTHING if label is None else label for label in self.labels]

    def shown(self) -> list[str]:
        """The numbers for display."""
        return [amounts.usd(value) if isinstance(value, Decimal) else viewer.number(value) for value in self.values]


@dataclass(frozen=True, slots=True)
class Report:
    """A table with its totals, and the data of the chart. `measures`: the headings of the numbers."""

    since: date
    until: date
    groups: list[str]
    measures: list[str]
    lines: list[ReportLine]
    total: ReportLine
    chart: dict[str, Any]

    @property
    def titles(self) -> list[str]:
        """The headings of the label columns."""
        return [GROUPS[name].title for name in self.groups]

    def csv(self) -> Iterator[str]:
        """The table as CSV for people: all lines, unrounded numbers, no totals."""
        yield BYTE_ORDER_MARK + csv_line([*self.titles, *self.measures])
        for line in self.lines:
            yield csv_line([*line.labels, *line.values])


def make(cleaned: dict[str, Any], user: Any) -> Report:
    """The report that a valid form asks for, of the roll-ups that its reader may see."""
    rows = select(cleaned, source(cleaned, user))
    groups = [name for name in GROUPS if name in cleaned["group"]]
    lines = summarise(rows, groups)
    columns = shown_measures(lines, sees_costs(user))
    lines = [ReportLine(line.labels, tuple(line.values[at] for at in columns.values())) for line in lines]
    return Report(
        since=cleaned["since"],
        until=cleaned["until"],
        groups=groups,
        measures=list(columns),
        lines=lines,
        total=add_up(lines),
        chart=chart(rows, cleaned, next((name for name in groups if name != "day"), None)),
    )


def shown_measures(lines: Sequence[ReportLine], costs: bool) -> dict[str, int]:
    """The headings of a report's numbers, each with the place of its measure: cost and charge are one where they are
    the same, and what owners pay is the cost for a reader who may not see what providers charge."""
    places = {title: at for at, title in enumerate(MEASURES.values())}
    cost, charge = places[MEASURES["cost"]], places.pop(MEASURES["charge"])
    if not costs:
        return places | {MEASURES["cost"]: charge}
    if any(line.values[cost] != line.values[charge] for line in lines):
        return {title: at for at, title in enumerate(MEASURES.values())}
    return places


def source(cleaned: dict[str, Any], user: Any) -> QuerySet[Any]:
    """The fewest rows that have what a report is grouped and filtered by: the totals of days, if no caller is."""
    by_caller = (
        cleaned["customer"] or cleaned["team"] or cleaned["key"] or not WITHOUT_CALLERS.issuperset(cleaned["group"])
    )
    return visible(user, Rollup.objects.all()) if by_caller or not sees_all(user) else DayTotal.objects.all()


def select(cleaned: dict[str, Any], rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those of the roll-ups that the form's range and filters select."""
    rows = rows.annotate(folded_model=FOLDED_MODEL).filter(
        bucket__gte=midnight(cleaned["since"]), bucket__lt=midnight(cleaned["until"] + timedelta(days=1))
    )
    for field, value in (
        ("customer", cleaned["customer"]),
        ("team", cleaned["team"]),
        ("virtual_key", cleaned["key"]),
    ):
        if value is not None:
            rows = rows.filter(**{field: value})
    if cleaned["model"]:
        rows = rows.filter(folded_model__regex=patterns.as_regex(cleaned["model"]))
    return rows


def midnight(day: date) -> datetime:
    """The first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)


def summarise(rows: QuerySet[Any], groups: Sequence[str]) -> list[ReportLine]:
    """A line per group, most expensive first; within each day if grouped by day."""
    fields = [field for name in groups for field in GROUPS[name].fields]
    order = ["day"] if "day" in groups else []
    sums = list(
        rows.annotate(day=TruncDate("bucket", tzinfo=UTC))
        .values(*fields)
        .annotate(**{f"sum_{measure}": Sum(OWED if measure == "charge" else measure) for measure in MEASURES})
        .order_by(*order, F("sum_charge").desc(), F("sum_calls").desc(), *fields)
    )
    called = {name: labels(GROUPS[name], sums) for name in groups}
    return [
        ReportLine(
            tuple(called[name][row[GROUPS[name].by]] for name in groups),
            tuple(row[f"sum_{measure}"] for measure in MEASURES),
            tuple(row[GROUPS[name].by] for name in groups),
        )
        for row in sums
    ]


def labels(group: Grouping, rows: Sequence[Mapping[str, Any]]) -> dict[Any, str | None]:
    """A distinct name for each group in these rows, by the value of `group.by`."""
    found = {row[group.by]: row for row in rows}
    called = {by: joined(row, group.names or (group.by,)) for by, row in found.items()}
    for fields in ((*group.more, *group.names), ()):
        alike = Counter(called.values())
        # Full names can be equal too: a team “C” of “A / B”, and “B / C” of “A”. Then the id is added.
        called |= {
            by: joined(found[by], fields) if fields else f"{name} #{by}"
            for by, name in called.items()
            if name is not None and alike[name] > 1
        }
    return called


def joined(row: Mapping[str, Any], fields: Sequence[str]) -> str | None:
    """The fields joined to a name; None if all of them are None."""
    return " / ".join(str(row[field]) for field in fields if row[field] is not None) or None


def add_up(lines: Sequence[ReportLine]) -> ReportLine:
    """The line with the totals."""
    return ReportLine((), tuple(sum(column) for column in zip(*(line.values for line in lines), strict=True)))


def chart(rows: QuerySet[Any], cleaned: dict[str, Any], series: str | None) -> dict[str, Any]:
    """What owners pay per day or month: the labels, and a list of USD for each of the most expensive series (and for
    the rest)."""
    monthly = cleaned["until"] - cleaned["since"] > timedelta(days=DAYS_IN_CHART)
    trunc = TruncMonth("bucket", tzinfo=UTC) if monthly else TruncDate("bucket", tzinfo=UTC)
    group = GROUPS[series] if series else None
    fields = group.fields if group else ()
    sums = list(rows.annotate(when=trunc).values("when", *fields).annotate(sum_owed=Sum(OWED)).order_by("when"))
    times = list(months(cleaned) if monthly else days(cleaned))
    called = labels(group, sums) if group else {}
    costs: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in sums:
        name = called[row[group.by]] or NOTHING if group else "Cost"
        costs[name][row["when"].isoformat()[: len(times[0])]] += row["sum_owed"]
    return {"labels": times, "series": stack(costs, times), "unit": "month" if monthly else "day"}


def stack(costs: dict[str, dict[str, Decimal]], times: list[str]) -> list[dict[str, Any]]:
    """The most expensive series, then the others added up into one."""
    names = sorted(costs, key=lambda name: sum(costs[name].values()), reverse=True)
    bars = [{"label": name, "data": [float(costs[name].get(when, 0)) for when in times]} for name in names[:SERIES]]
    if others := names[SERIES:]:
        rest = [float(sum((costs[name].get(when, Decimal(0)) for name in others), Decimal(0))) for when in times]
        bars.append({"label": f"{len(others)} others", "data": rest})
    return bars


def days(cleaned: dict[str, Any]) -> Iterator[str]:
    """The days of the range, as YYYY-MM-DD."""
    for number in range((cleaned["until"] - cleaned["since"]).days + 1):
        yield (cleaned["since"] + timedelta(days=number)).isoformat()


def months(cleaned: dict[str, Any]) -> Iterator[str]:
    """The months of the range, as YYYY-MM."""
    month = cleaned["since"].replace(day=1)
    while month <= cleaned["until"]:
        yield f"{month:%Y-%m}"
        month = (month + timedelta(days=32)).replace(day=1)
