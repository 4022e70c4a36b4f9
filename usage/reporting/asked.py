"""What a report is asked for: read from the parameters of a URL, and written as one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from keys import patterns, provider_kinds, viewer
from keys.form_fields import DayField
from keys.models import Customer, ProviderKey, Team, VirtualKey, check_time_zone
from keys.pickers import Picker, limit
from keys.visibility import visible
from usage.measures import ALL_MEASURES
from usage.models import Rollup, Status
from usage.paid import sees_costs
from usage.questions import MOST_ROWS, Every, Question, of_days
from usage.reporting.dimensions import ALL, WITHOUT, all_names, in_words
from usage.reporting.ranges import PRESETS, Days, before

Amount = Literal["charge", "cost"]

WHOLE = "whole"
EVERY = ("hour", "day", "week", "month")
# What a page shows of the same question.
SHOWN = {
    "usage": "Usage",
    "money": "Money by category",
    "movers": "Top movers",
    "errors": "Errors and latency",
    "forecast": "Forecast",
}
# What movers are without a group.
MOVING = ("customer", "team")
MOST_GROUPS, MOST_DAYS, MOST_DAYS_BY_HOUR = 3, 3660, 366
# The zone of the chosen customer.
CUSTOMERS = "customer"
OF_ROWS = ("customer", "team", "key", "provider_key")
OF_TEXT = ("cost_centre", "project", "provider", "service_tier", "speed", "status")
# Parameters of earlier versions, by their new names.
EARLIER = {"group": "by", "model": "models"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        days: the range.
        zone: in which its days begin.
        preset: the name of the range (ranges.py); empty: these very days.
        every: a line for each of these; None: for the range as a whole.
        by: the dimensions that a line is for each value of.
        where: for dimensions, the values that count (usage/questions.py).
        models: a pattern of models; empty: all.
        compare: with the range before.
        amount: what owners pay, or what providers charge.
        show: one of `SHOWN`.
    """

    days: Days
    zone: ZoneInfo
    preset: str = ""
    every: Every | None = None
    by: tuple[str, ...] = ()
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    models: str = ""
    compare: bool = False
    amount: Amount = "charge"
    show: str = "usage"

    def question(
        self, measures: Collection[str] = ALL_MEASURES, *, most_rows: int | None = MOST_ROWS, **changes: Any
    ) -> Question:
        """The question to roll-ups. `changes`: of its other attributes."""
        since, until = of_days(self.days.first, self.days.last, self.zone)
        asked = Question(
            since, until, self.zone, self.every, self.by, self.where, self.models, tuple(measures), most_rows
        )
        return replace(asked, **changes)

    @property
    def before(self) -> Asked:
        """The same of the range before."""
        preset = PRESETS.get(self.preset)
        return replace(self, preset="", days=before(self.days, preset.length if preset else 0))

    def query_string(self, **changes: Any) -> str:
        """The parameters of the URL that asks this, always in the same order.

        Args:
            changes: of attributes.
        """
        asked = replace(self, **changes) if changes else self
        found: list[tuple[str, Any]] = [("range", asked.preset)]
        if not asked.preset:
            found = [("since", asked.days.first.isoformat()), ("until", asked.days.last.isoformat())]
        found += [("zone", asked.zone.key), ("every", asked.every or WHOLE)]
        found += [("by", name) for name in asked.by]
        for name in ALL:
            values = asked.where.get(name, ())
            words = {True: "yes", False: "no"} if name == "stream" else {}
            found += [(name, words.get(value, value)) for value in values if value not in (None, "")]
        found += [("without", name) for name in WITHOUT if {None, ""} & set(asked.where.get(name, ()))]
        found += [("models", asked.models)] if asked.models else []
        found += [("compare", "yes")] if asked.compare else []
        found += [("amount", asked.amount)] if asked.amount != "charge" else []
        found += [("show", asked.show)] if asked.show != "usage" else []
        return urlencode(found)

    def heading(self) -> list[tuple[str, str]]:
        """What is asked, in words: range, zone, grouping, filters. One query for each dimension of rows."""
        found = [("Range", said(self.days, self.preset)), ("Time zone", self.zone.key)]
        found += [("By", self.every)] if self.every else []
        found += [("Grouped by", ", ".join(ALL[name].title for name in self.by))] if self.by else []
        for name, values in self.where.items():
            names = all_names((name,), {(value,) for value in values}, whole=True).get(name, {})
            nothing = f"without {ALL[name].without}"
            words = [nothing if value in (None, "") else in_words(name, value, names) for value in values]
            found.append((ALL[name].title, ", ".join(words)))
        found += [("Models", self.models)] if self.models else []
        found += [("Compared with", said(self.before.days))] if self.compare else []
        return found


def said(days: Days, preset: str = "") -> str:
    """A range in words."""
    ends = [f"{day.day} {day:%B %Y}" for day in dict.fromkeys((days.first, days.last))]
    name = f" ({PRESETS[preset].title})" if preset else ""
    return " to ".join(ends) + name


def _reference(name: str) -> Any:
    return Rollup._meta.get_field(name)


def _zones() -> list[tuple[str, str]]:
    mine = f"yours: {timezone.get_current_timezone_name()}"
    return [("", mine), (CUSTOMERS, "the customer’s"), *((name, name) for name in viewer.zones())]


class AskedForm(forms.Form):
    """The parameters. Empty ones mean: this month, by day, all calls."""

    range = forms.ChoiceField(
        required=False, choices=[("", "own dates"), *((name, each.title) for name, each in PRESETS.items())]
    )
    since = DayField(label="From", required=False)
    until = DayField(label="To", required=False, help_text="including this day")
    zone = forms.CharField(label="Time zone", required=False, max_length=60, widget=forms.Select)
    every = forms.ChoiceField(
        label="By", required=False, choices=[(WHOLE, "the whole range"), *((name, name) for name in EVERY)]
    )
    compare = forms.BooleanField(label="Compare with the period before", required=False)
    amount = forms.ChoiceField(
        required=False, choices=[("charge", "what owners pay"), ("cost", "what providers charge")]
    )
    by = forms.MultipleChoiceField(
        label="Group by",
        required=False,
        choices=[(name, each.title) for name, each in ALL.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    customer = Picker(_reference("customer"), Customer.objects.all())
    team = Picker(_reference("team"), Team.objects.all())
    key = Picker(_reference("virtual_key"), VirtualKey.objects.select_related("customer", "team"), label="Virtual key")
    models = forms.CharField(
        required=False, max_length=200, validators=[patterns.check], help_text="a name or a pattern, such as claude-*"
    )
    provider = forms.ChoiceField(required=False, choices=lambda: [("", "any"), *provider_kinds.choices()])
    provider_key = Picker(_reference("provider_key"), ProviderKey.objects.all(), label="Provider key")
    status = forms.ChoiceField(required=False, choices=[("", "any"), *Status.choices])
    stream = forms.ChoiceField(required=False, choices=[("", "any"), ("yes", "streamed"), ("no", "in one piece")])
    service_tier = forms.CharField(label="Service tier", required=False, max_length=60)
    speed = forms.CharField(required=False, max_length=60)
    cost_centre = forms.CharField(label="Cost centre", required=False, max_length=100)
    project = forms.CharField(required=False, max_length=100)
    without = forms.MultipleChoiceField(
        label="Only calls without",
        required=False,
        choices=[(name, each.without) for name, each in WITHOUT.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    show = forms.ChoiceField(required=False, choices=list(SHOWN.items()), widget=forms.HiddenInput)

    def __init__(self, data: QueryDict | MultiValueDict[str, Any] | str, *, user: Any) -> None:
        """A form whose filters offer only what this person may see.

        Args:
            data: the parameters; a text: a query string.
        """
        super().__init__(renamed(QueryDict(data) if isinstance(data, str) else data))
        self.user = user
        self.sees_costs = sees_costs(user)
        if not self.sees_costs:
            del self.fields["amount"]
        widget: Any = self.fields["zone"].widget
        widget.choices = _zones()
        limit(self.fields.values(), user)

    def clean_by(self) -> tuple[str, ...]:
        """The dimensions, in their own order.

        Raises:
            ValidationError: they are too many.
        """
        if len(self.cleaned_data["by"]) > MOST_GROUPS:
            raise forms.ValidationError(f"Choose at most {MOST_GROUPS}.")
        return tuple(name for name in ALL if name in self.cleaned_data["by"])

    def clean(self) -> dict[str, Any]:
        """Choose the zone and the range.

        Raises:
            ValidationError: the range ends before it starts, or is too long; or no customer has a zone to choose.
        """
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        cleaned["zone"] = self._zone(cleaned["zone"], cleaned["customer"])
        days = self._days(cleaned, timezone.now().astimezone(cleaned["zone"]).date())
        if days.last < days.first:
            raise forms.ValidationError("The range ends before it starts: choose an earlier start or a later end.")
        by_hour = cleaned["every"] == "hour"
        if days.count > MOST_DAYS or days.last.year > 9000:
            raise forms.ValidationError("The range is longer than ten years: choose a shorter one.")
        if by_hour and days.count > MOST_DAYS_BY_HOUR:
            raise forms.ValidationError("By hour, a range can be a year long: choose a shorter one, or longer periods.")
        for name in cleaned["without"]:
            if cleaned[name]:
                raise forms.ValidationError({name: f"Choose one, or calls without {WITHOUT[name].without}."})
        return cleaned | {"days": days}

    def _zone(self, name: str, customer: Customer | None) -> ZoneInfo:
        if not name:
            return ZoneInfo(timezone.get_current_timezone_name())
        if name != CUSTOMERS:
            try:
                check_time_zone(name)
            except forms.ValidationError as error:
                raise forms.ValidationError({"zone": error.messages}) from None
            return ZoneInfo(name)
        # A person who sees one customer only means that one.
        seen = [customer] if customer else list(visible(self.user, Customer.objects.all(), "choose")[:2])
        if len(seen) != 1:
            raise forms.ValidationError({"zone": "Choose the customer whose time zone it is."})
        return ZoneInfo(seen[0].time_zone)

    def _days(self, cleaned: dict[str, Any], today: date) -> Days:
        since, until = cleaned["since"], cleaned["until"]
        preset = cleaned["range"] or ("" if since or until else "this_month")
        cleaned["range"] = preset
        if preset:
            return PRESETS[preset].days(today)
        until = until or max(today, since)
        return Days(since or until.replace(day=1), until)

    def asked(self) -> Asked:
        """What a valid form asks."""
        given = self.cleaned_data
        moves = given["show"] == "movers"
        every = given["every"] or (WHOLE if given["by"] else "day")
        return Asked(
            given["days"],
            given["zone"],
            given["range"],
            None if moves or every == WHOLE else cast(Every, every),
            given["by"] or (MOVING if moves else ()),
            self._where(given),
            given["models"],
            given["compare"] or moves,
            cast(Amount, given.get("amount") or "charge"),
            given["show"] or "usage",
        )

    def fill_in(self, asked: Asked) -> None:
        """Fill in what was taken for empty fields."""
        filled = QueryDict(asked.query_string(), mutable=True)
        filled["since"], filled["until"] = asked.days.first.isoformat(), asked.days.last.isoformat()
        filled["range"] = asked.preset
        widget: Any = self.fields["zone"].widget
        if asked.zone.key not in viewer.zones():
            widget.choices = [*widget.choices, (asked.zone.key, asked.zone.key)]
        self.data = filled

    def open_fields(self) -> list[Any]:
        """The fields that people use most."""
        return [
            self[name] for name in ("range", "since", "until", "zone", "every", "customer", "team", "key", "models")
        ]

    def more_fields(self) -> list[Any]:
        """The other filters."""
        shown = {field.name for field in self.open_fields()} | {"by", "compare", "show"}
        return [field for field in self if field.name not in shown]

    def more_is_used(self) -> bool:
        """Whether one of the other filters has a value, apart from the amount that is usual."""
        return any(field.errors or field.value() not in (None, "", [], "charge") for field in self.more_fields())

    def _where(self, given: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for name, dimension in ALL.items():
            values: tuple[Any, ...] = ()
            if name in OF_ROWS:
                values = (given[name].pk,) if given[name] else ()
            elif name in OF_TEXT:
                values = (given[name],) if given[name] else ()
            elif name == "stream" and given[name]:
                values = (given[name] == "yes",)
            if name in given["without"]:
                values = (dimension.empty,)
            if values:
                found[name] = values
        return found


def renamed(data: QueryDict | MultiValueDict[str, Any]) -> MultiValueDict[str, Any]:
    """Parameters, of which those of earlier versions have their new names."""
    found = MultiValueDict({EARLIER.get(name, name): data.getlist(name) for name in data})
    if "day" in found.getlist("by"):
        found.setlist("by", [name for name in found.getlist("by") if name != "day"])
        found.setdefault("every", "day")
    return found
