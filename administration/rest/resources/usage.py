"""What calls used and cost, added up as the usage report does (usage/reporting), for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.utils.datastructures import MultiValueDict
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateField,
    ListField,
    SerializerMethodField,
)

from administration.rest.filters import Parameter, a_choice, a_text
from administration.rest.members import Amount, Members, Moment, Whole
from administration.rest.resource import Resource
from keys import key_search
from keys.models import VirtualKey
from usage.models import Rollup, Status
from usage.paid import sees_costs
from usage.reporting.asked import EVERY, WHOLE, Asked, AskedForm
from usage.reporting.bounded import Bounded
from usage.reporting.categories import added
from usage.reporting.dimensions import ALL, WITHOUT
from usage.reporting.lines import Compared, Reading
from usage.reporting.tables import named
from usage.tokens import TOKEN_COLUMNS

# Lines of an answer. The total is of all.
MOST = 5000
ID: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
DAY: dict[str, Any] = {"type": "string", "format": "date"}
# Groups whose rows have an id, and what their members are called.
WITH_ID = {"customer": "customer", "team": "team", "key": "virtual_key", "provider_key": "provider_key"}
# Parameters whose names differ from those of the report's form.
OF_FORM = {
    "customer_id": "customer",
    "team_id": "team",
    "virtual_key_id": "key",
    "provider_key_id": "provider_key",
    "model": "models",
    "group_by": "by",
}
# What an answer can be grouped by: `day` is the same as `every=day`.
GROUPS = ("day", *ALL)
LISTS = ("by", "without")


def _id(text: str) -> Parameter:
    return Parameter(str, "an id", ID, text)


class SumMembers(Members):
    """Sums of calls."""

    calls = Whole()
    estimated_calls = Whole(help_text="Calls whose usage is an estimate.")
    cost = Amount(help_text="What providers charge, in USD; for those who can't see prices, what owners pay.")
    charge = Amount(help_text="What owners pay, in USD.")
    tokens = SerializerMethodField(help_text="Tokens and requests by category.")

    def get_tokens(self, sums: Mapping[str, Any]) -> dict[str, int]:
        """The counts by category."""
        return {name: sums[name] for name in TOKEN_COLUMNS}


class LineMembers(SumMembers):
    """The sums of one group and period, with the members that name it."""

    since = Moment(required=False, help_text="The beginning of the period.")
    until = Moment(required=False, help_text="Its end, which isn't a part of it.")
    day = DateField(required=False, help_text="The period, if it is a day.")
    customer_id = Whole(required=False)
    customer = CharField(required=False)
    team_id = Whole(required=False, allow_null=True, help_text="Null: of keys without a team.")
    team = CharField(required=False, allow_null=True)
    virtual_key_id = Whole(required=False)
    virtual_key = CharField(required=False)
    cost_centre = CharField(required=False, allow_blank=True, help_text="Empty: of keys without one.")
    project = CharField(required=False, allow_blank=True, help_text="Empty: of keys without one.")
    provider = CharField(required=False, allow_blank=True)
    provider_key_id = Whole(required=False, allow_null=True)
    provider_key = CharField(required=False, allow_null=True)
    model = CharField(required=False)
    service_tier = CharField(required=False, allow_blank=True)
    speed = CharField(required=False, allow_blank=True)
    status = CharField(required=False)
    stream = BooleanField(required=False)


class UsageMembers(Members):
    """A report: its range, its groups, and the total."""

    since = DateField()
    until = DateField(help_text="The last day of the range.")
    zone = CharField(help_text="The time zone in which days begin.")
    every = CharField(allow_null=True, help_text="The length of the periods. Null: the whole range.")
    group_by = ListField(child=ChoiceField(choices=list(GROUPS)))
    data = LineMembers(many=True)  # type: ignore[assignment]
    left_out = Whole(help_text=f"Groups beyond the first {MOST:,}. The total has them, too.")
    total = SumMembers()


class Usage(Resource):
    """What calls used and cost over a range of days, a line for each group and period, the most expensive first within
    each period. The sums are at most a few minutes old. A range that needs more than 100,000 sums to be added up is
    refused: choose a shorter one, longer periods, or fewer groups."""

    scope = "usage"
    noun = "usage"
    queryset = Rollup.objects.all()
    serializer_class = UsageMembers
    parameters: ClassVar = {
        "since": Parameter(str, "a date", DAY, "The first day, such as 2026-11-01. This month without it."),
        "until": Parameter(str, "a date", DAY, "The last day. Today without it."),
        "zone": Parameter(*a_text("The time zone in which days begin, such as Europe/Berlin. UTC without it.")),
        "every": Parameter(*a_choice([WHOLE, *EVERY], "The length of periods; `whole`: the range as a whole.")),
        "group_by": Parameter(
            *a_text(
                f"Up to three to group by, separated by commas: {', '.join(GROUPS)}. `day` is the same as `every=day`, "
                "which it is without this."
            )
        ),
        "customer_id": _id("Only calls of this customer."),
        "team_id": _id("Only calls of this team."),
        "virtual_key_id": _id("Only calls of this virtual key."),
        "provider_key_id": _id("Only calls that this provider key answered."),
        "provider": Parameter(*a_text("Only calls that this provider answered, such as anthropic.")),
        "model": Parameter(*a_text("Only calls of this model. Patterns such as claude-* work, too.")),
        "status": Parameter(*a_choice(list(Status.values), "Only calls that ended so.")),
        "stream": Parameter(*a_choice(["yes", "no"], "Only calls that asked for a stream, or for none.")),
        "service_tier": Parameter(*a_text("Only calls of this service tier.")),
        "speed": Parameter(*a_text("Only calls of this speed.")),
        "cost_centre": Parameter(*a_text("Only calls with this cost centre, as the key's label was then.")),
        "project": Parameter(*a_text("Only calls with this project, as the key's label was then.")),
        "without": Parameter(*a_text(f"Only calls without these, separated by commas: {', '.join(WITHOUT)}.")),
        "label": Parameter(*a_text("Only calls of the virtual keys that have this label now: `project=atlas`.")),
    }

    def show(self, request: Request) -> Response:
        """Add up usage and cost."""
        self.require_any("view")
        given = self.given()
        asked = checked(given, request.user)
        if "label" in given:
            keys = with_label(given["label"]).filter(**_chosen(asked))
            asked = replace(asked, where={**asked.where, "key": tuple(keys.values_list("pk", flat=True))})
        # What owners pay is the order for everybody.
        lines = named(asked, Reading(asked, Bounded(request.user), "charge").lines())
        lines.sort(key=lambda line: (line.since, -line.value("charge"), -line.value("calls")))
        sees = sees_costs(request.user)
        answer = {
            "since": asked.days.first,
            "until": asked.days.last,
            "zone": asked.zone.key,
            "every": asked.every,
            "group_by": [*(["day"] if asked.every == "day" else []), *asked.by],
            "data": [members(line, asked) | sums(line.values, sees) for line in lines[:MOST]],
            "left_out": max(0, len(lines) - MOST),
            "total": sums(added([line.values for line in lines]), sees),
        }
        return Response(UsageMembers(answer).data)


def _chosen(asked: Asked) -> dict[str, Any]:
    return {"pk__in": asked.where["key"]} if "key" in asked.where else {}


def checked(given: Mapping[str, Any], user: Any) -> Asked:
    """What the parameters ask.

    Raises:
        ValidationError: by parameter.
    """
    data = MultiValueDict[str, Any]({"zone": ["UTC"]})
    for name, value in given.items():
        if name == "label":
            continue
        field = OF_FORM.get(name, name)
        data.setlist(field, [each.strip() for each in value.split(",")] if field in LISTS else [value])
    form = AskedForm(data, user=user)
    if not form.is_valid():
        names = {field: name for name, field in OF_FORM.items()}
        faults = {names.get(name, name if name in given else "since"): texts for name, texts in form.errors.items()}
        raise ValidationError({name: list(texts) for name, texts in faults.items()})
    return form.asked()


def with_label(text: str) -> Any:
    """The virtual keys that have a label, `name=value`.

    Raises:
        ValidationError: the text names no label.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValidationError({"label": "Expected name=value, such as project=atlas."})
    keys = VirtualKey.objects.filter(key_search.fits(text), labels__contains={name: value})
    return keys.order_by()


def members(line: Compared, asked: Asked) -> dict[str, Any]:
    """The members that name a line."""
    found: dict[str, Any] = {"since": line.since, "until": line.until} if asked.every else {}
    if asked.every == "day":
        found["day"] = line.since.astimezone(asked.zone).date()
    for name, value in zip(asked.by, line.group, strict=True):
        member = WITH_ID.get(name)
        found |= {name: value} if member is None else {f"{member}_id": value, member: line.names.get(name)}
    return found


def sums(values: Mapping[str, Any], sees: bool) -> dict[str, Any]:
    """The measures of a line by name; who may not see prices sees what owners pay as the cost, too."""
    found = {name: values.get(name) or 0 for name in ("calls", "estimated_calls", *TOKEN_COLUMNS)}
    charge = values.get("charge") or Decimal(0)
    return found | {"cost": (values.get("cost") or Decimal(0)) if sees else charge, "charge": charge}
