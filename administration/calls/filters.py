"""Which calls a list or an export shows. The filter is a form, and its values are in the URL.

A page reads the ledger backwards by id, from where the page before ended. What has an index narrows the rows that are
read. For all other conditions, a page looks at `LOOKED_AT` rows at most, and then says how far back it has looked, so
that a rare value takes as long as a frequent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.utils import timezone

from keys import patterns, provider_kinds
from keys.form_fields import MomentInput
from keys.model_names import fold
from keys.models import Customer, ProviderKey, Team, VirtualKey
from keys.pickers import Picker, limit
from usage import export, request_ids
from usage.ledger_dimensions import FIELDS, with_dimensions
from usage.models import OWED, LedgerEntry, Status
from usage.price_flags import PRICE_FLAGS

PAGE = 50
LOOKED_AT = 20_000
ANY = ("", "any")
# The values of fields without a condition.
NOTHING: tuple[Any, ...] = (None, "", [])
ESTIMATED = "estimated"
SESSION = "claude_code_session"
PROBLEM = "problem"
WHOSE = {"ours": "our fault", "callers": "the caller’s fault", "theirs": "the provider’s fault"}
# Dimensions of reports that are texts.
LABELLED = ("service_tier", "speed", "cost_centre", "project")
# What calls can be without, each with its condition.
WITHOUT = {
    "team": Q(team=None),
    "provider_key": Q(provider_key=None),
    **{name: Q(**{FIELDS[name]: ""}) for name in LABELLED},
}
# The condition of the partial index of calls that were not completed.
UNFINISHED = ~Q(status=Status.COMPLETED)


def reference(name: str) -> Any:
    """A foreign key of the ledger."""
    return LedgerEntry._meta.get_field(name)


class CallFilter(forms.Form):
    """The conditions of a list of calls. Empty fields allow any value."""

    since = forms.DateTimeField(label="From", required=False, widget=MomentInput)
    until = forms.DateTimeField(label="Before", required=False, widget=MomentInput)
    customer = Picker(reference("customer"), Customer.objects.all())
    team = Picker(reference("team"), Team.objects.all())
    key = Picker(
        reference("virtual_key"),
        VirtualKey.objects.select_related("customer", "team"),
        label="Virtual key",
    )
    model = forms.CharField(
        required=False, max_length=200, validators=[patterns.check], help_text="A name or a pattern, such as claude-*."
    )
    provider = forms.ChoiceField(required=False, choices=lambda: [ANY, *provider_kinds.choices()])
    provider_key = Picker(reference("provider_key"), ProviderKey.objects.all(), label="Provider key")
    status = forms.ChoiceField(required=False, choices=[ANY, (PROBLEM, "not completed"), *Status.choices])
    stop_reason = forms.CharField(label="Stop reason", required=False, max_length=100)
    stream = forms.ChoiceField(required=False, choices=[ANY, ("yes", "streamed"), ("no", "in one piece")])
    whose = forms.ChoiceField(label="Went wrong by", required=False, choices=[ANY, *WHOSE.items()])
    service_tier = forms.CharField(label="Service tier", required=False, max_length=60)
    speed = forms.CharField(required=False, max_length=60)
    price = forms.ChoiceField(
        label="Cost is",
        required=False,
        choices=[ANY, (ESTIMATED, "an estimate"), *((flag, flag.replace("_", " ")) for flag in PRICE_FLAGS)],
    )
    session = forms.CharField(required=False, max_length=200, help_text="Of Claude Code, in full.")
    label = forms.CharField(required=False, max_length=400, help_text="name=value")
    cost_centre = forms.CharField(label="Cost centre", required=False, max_length=100)
    project = forms.CharField(required=False, max_length=100)
    without = forms.MultipleChoiceField(
        label="Without",
        required=False,
        choices=[(name, name.replace("_", " ")) for name in WITHOUT],
        widget=forms.CheckboxSelectMultiple,
    )
    cost_above = forms.DecimalField(
        label="Cost above, USD", required=False, min_value=0, max_digits=18, decimal_places=12
    )
    seconds_above = forms.DecimalField(
        label="Seconds above", required=False, min_value=0, max_digits=9, decimal_places=3
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        """A form whose pickers know only what this person may choose."""
        super().__init__(*args, **kwargs)
        limit(self.fields.values(), user)

    def clean_label(self) -> tuple[str, str] | None:
        """The label's name and value.

        Raises:
            ValidationError: there is no `=` in it.
        """
        text = self.cleaned_data["label"]
        name, equals, value = text.partition("=")
        if text and not (name and equals):
            raise forms.ValidationError("Write a label as name=value.")
        return (name.strip(), value.strip()) if text else None

    def clean(self) -> dict[str, Any]:
        """Check the range.

        Raises:
            ValidationError: it ends before it begins.
        """
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until <= since:
            raise forms.ValidationError("The range ends before it begins: choose a later end or an earlier beginning.")
        return cleaned

    @property
    def is_narrow(self) -> bool:
        """Whether any condition is given."""
        return any(value not in NOTHING for value in self.cleaned_data.values())

    def open_fields(self) -> list[Any]:
        """The fields that people use most, for the first line of the form."""
        return [self[name] for name in ("since", "until", "customer", "team", "key", "model", "status")]

    def more_fields(self) -> list[Any]:
        """All other fields."""
        shown = {field.name for field in self.open_fields()}
        return [field for field in self if field.name not in shown]

    def more_is_used(self) -> bool:
        """Whether one of the other fields has a value."""
        return any(field.value() or field.errors for field in self.more_fields())


@dataclass(frozen=True, slots=True)
class Conditions:
    """A filter for the ledger.

    Attributes:
        indexed: rows in the range of time, narrowed by what has an index.
        others: the conditions that each of these rows is compared with; empty if there are none.
    """

    indexed: QuerySet[LedgerEntry]
    others: Q

    @property
    def rows(self) -> QuerySet[LedgerEntry]:
        """All rows that fit, in no order."""
        return self.indexed.filter(self.others)


@dataclass(frozen=True, slots=True)
class CallsPart:
    """A page of a list. `next`: the id before which the next page begins; None on the last one. `looked_back_to`: the
    page has fewer rows than fit on it because it stopped looking there.
    """

    rows: list[LedgerEntry]
    next: UUID | None = None
    looked_back_to: datetime | None = None


def conditions(cleaned: dict[str, Any], rows: QuerySet[LedgerEntry]) -> Conditions:
    """The conditions of a valid form.

    Args:
        rows: those that the reader may see.
    """
    since, until = cleaned.get("since"), cleaned.get("until")
    indexed = rows.annotate(session=KeyTextTransform(SESSION, "client_labels"))
    if since:
        indexed = indexed.filter(admitted_at__gte=since, id__gte=export.first_id(since))
    if until:
        indexed = indexed.filter(admitted_at__lt=until, id__lt=export.last_id(until))
    wanted = [
        # By index, the narrowest first.
        ("session", Q(session=cleaned.get("session"))),
        ("key", Q(virtual_key=cleaned.get("key"))),
        ("team", Q(team=cleaned.get("team"))),
        ("customer", Q(customer=cleaned.get("customer"))),
        ("price", price(cleaned.get("price") or "")),
        ("status", status(cleaned.get("status") or "")),
        # Without an index.
        ("provider_key", Q(provider_key=cleaned.get("provider_key"))),
        ("stop_reason", Q(stop_reason=cleaned.get("stop_reason"))),
        ("stream", Q(stream=cleaned.get("stream") == "yes")),
        ("cost_above", Q(paid__gt=cleaned.get("cost_above"))),
        ("seconds_above", Q(duration_ms__gt=(cleaned.get("seconds_above") or 0) * 1000)),
        ("model", model(cleaned.get("model") or "")),
        ("label", label(cleaned.get("label"))),
        ("provider", Q(provider=cleaned.get("provider"))),
        ("whose", Q(whose=cleaned.get("whose"))),
        *((name, Q(**{FIELDS[name]: cleaned.get(name)})) for name in LABELLED),
        ("without", Q(*(WITHOUT[name] for name in cleaned.get("without") or ()))),
    ]
    given = [(name, condition) for name, condition in wanted if cleaned.get(name) not in NOTHING]
    others = Q()
    # Rows of a part of the deployment are found by its index, and compared with what has another one.
    whole = not rows.query.where
    for number, (name, condition) in enumerate(given):
        if number == 0 and is_indexed(name, cleaned, whole=whole):
            if name == "status" and cleaned["status"] != PROBLEM:  # of many unfinished calls, few may have ended so
                indexed, others = indexed.filter(UNFINISHED), condition
            else:
                indexed = indexed.filter(condition)
        else:
            others &= condition
    return Conditions(with_dimensions(indexed).alias(paid=OWED), others)


def is_indexed(name: str, cleaned: dict[str, Any], *, whole: bool) -> bool:
    """Whether an index finds the rows with this condition (usage/migrations/0027_ledger_indexes.py).

    Args:
        whole: the reader sees all rows.
    """
    if name == "status":
        return whole and bool(cleaned["status"] != Status.COMPLETED)
    return name in ("session", "key", "team") or (whole and name in ("customer", "price"))


def status(value: str) -> Q:
    """How the call ended."""
    return UNFINISHED if value == PROBLEM else Q(status=value)


def price(value: str) -> Q:
    """Why the cost is not just the list price."""
    return Q(estimated=True) if value == ESTIMATED else Q(price_flag=value) & ~Q(price_flag="")


def model(pattern: str) -> Q:
    """The model that answered. Names that differ only in case are one model."""
    if "*" not in pattern:
        return Q(folded_model=fold(pattern))
    return Q(folded_model__regex=patterns.as_regex(pattern))


def label(pair: tuple[str, str] | None) -> Q:
    """A label of the key, or one that the client sent."""
    return Q(labels__contains=dict([pair])) | Q(client_labels__contains=dict([pair])) if pair else Q()


def page(wanted: Conditions, before: UUID | None = None) -> CallsPart:
    """The latest rows that fit, before an id; in one query, or in two if not all conditions have an index."""
    rows = wanted.indexed.order_by("-id")
    if before is not None:
        rows = rows.filter(id__lt=before)
    floor = rows.values_list("id", flat=True)[LOOKED_AT : LOOKED_AT + 1].first() if wanted.others else None
    if floor is not None:
        rows = rows.filter(id__gte=floor)
    related = rows.filter(wanted.others).select_related("virtual_key", "provider_key", "team__customer", "customer")
    found = list(related[: PAGE + 1])
    if len(found) > PAGE:
        return CallsPart(found[:PAGE], found[PAGE - 1].id)
    return CallsPart(found, floor, moment(floor)) if floor is not None else CallsPart(found)


def oldest_first(wanted: Conditions) -> Iterator[list[LedgerEntry]]:
    """The rows that fit by now, oldest first, in parts. Each part is a short statement, however few rows fit."""
    rows = wanted.indexed.filter(id__lte=export.last_id(timezone.now())).order_by("id")
    after: UUID | None = None
    while True:
        left = rows if after is None else rows.filter(id__gt=after)
        end = left.values_list("id", flat=True)[LOOKED_AT - 1 : LOOKED_AT].first()
        part = left if end is None else left.filter(id__lte=end)
        yield from export.pages(part.filter(wanted.others))
        if end is None:
            return
        after = end


def moment(call: UUID) -> datetime:
    """The time in a call's id."""
    return datetime.fromtimestamp((call.int >> 80) / 1000, UTC)


def before_of(text: str | None) -> UUID | None:
    """The id in a page's URL; None without one, or with one that can't be read."""
    try:
        return request_ids.parse(text) if text else None
    except ValueError:
        return None
