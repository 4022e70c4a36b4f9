"""What calls used and cost, added up as the usage report does (usage/reports.py), for programs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, ChoiceField, DateField, ListField, SerializerMethodField

from administration.rest.filters import Parameter, a_text
from administration.rest.members import Amount, Members, Whole
from administration.rest.resource import Resource
from keys import key_search
from keys.models import VirtualKey
from usage import reports
from usage.models import Rollup
from usage.paid import sees_costs
from usage.tokens import TOKEN_COLUMNS

# Lines of an answer. The total is of all.
MOST = 5000
ID: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
DAY: dict[str, Any] = {"type": "string", "format": "date"}
# Groups whose rows have an id, and what their members are called.
WITH_ID = {"customer": "customer", "team": "team", "key": "virtual_key", "provider_key": "provider_key"}
# The parameters that the report's form checks, by its names.
OF_FORM = {
    "since": "since",
    "until": "until",
    "customer": "customer_id",
    "team": "team_id",
    "key": "virtual_key_id",
    "model": "model",
    "group": "group_by",
}


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
    """The sums of one group, with the members that name it."""

    day = DateField(required=False)
    customer_id = Whole(required=False)
    customer = CharField(required=False)
    team_id = Whole(required=False, allow_null=True, help_text="Null: of keys without a team.")
    team = CharField(required=False, allow_null=True)
    virtual_key_id = Whole(required=False)
    virtual_key = CharField(required=False)
    model = CharField(required=False)
    provider_key_id = Whole(required=False, allow_null=True)
    provider_key = CharField(required=False, allow_null=True)
    status = CharField(required=False)


class UsageMembers(Members):
    """A report: its range, its groups, and the total."""

    since = DateField()
    until = DateField(help_text="The last day of the range.")
    group_by = ListField(child=ChoiceField(choices=list(reports.GROUPS)))
    data = LineMembers(many=True)  # type: ignore[assignment]
    left_out = Whole(help_text=f"Groups beyond the first {MOST:,}. The total has them, too.")
    total = SumMembers()


class Usage(Resource):
    """What calls used and cost over a range of days (UTC), a line for each group, the most expensive first; within each
    day if grouped by day. The sums are at most a few minutes old."""

    scope = "usage"
    noun = "usage"
    queryset = Rollup.objects.all()
    serializer_class = UsageMembers
    parameters: ClassVar = {
        "since": Parameter(str, "a date", DAY, "The first day, such as 2026-11-01. This month without it."),
        "until": Parameter(str, "a date", DAY, "The last day. Today without it."),
        "group_by": Parameter(
            *a_text(f"What to group by, separated by commas: {', '.join(reports.GROUPS)}. By day without it.")
        ),
        "customer_id": _id("Only calls of this customer."),
        "team_id": _id("Only calls of this team."),
        "virtual_key_id": _id("Only calls of this virtual key."),
        "model": Parameter(*a_text("Only calls of this model. Patterns such as claude-* work, too.")),
        "label": Parameter(*a_text("Only calls of the virtual keys that have this label now: `project=atlas`.")),
    }

    def show(self, request: Request) -> Response:
        """Add up usage and cost."""
        self.require_any("view")
        given = self.given()
        cleaned = checked(given, request.user)
        rows = reports.source(cleaned | {"key": cleaned["key"] or given.get("label")}, request.user)
        rows = reports.select(cleaned, rows)
        if "label" in given:
            rows = rows.filter(virtual_key__in=with_label(given["label"]))
        groups = [name for name in reports.GROUPS if name in cleaned["group"]]
        lines = reports.summarise(rows, groups)
        sees = sees_costs(request.user)
        answer = {
            "since": cleaned["since"],
            "until": cleaned["until"],
            "group_by": groups,
            "data": [named(line, groups) | sums(line, sees) for line in lines[:MOST]],
            "left_out": max(0, len(lines) - MOST),
            "total": sums(reports.add_up(lines), sees),
        }
        return Response(UsageMembers(answer).data)


def checked(given: Mapping[str, Any], user: Any) -> dict[str, Any]:
    """The values of the report's form.

    Raises:
        ValidationError: by parameter.
    """
    data: dict[str, Any] = {name: given[named] for name, named in OF_FORM.items() if named in given}
    if "group" in data:
        data["group"] = [name.strip() for name in data["group"].split(",")]
    form = reports.ReportForm(data, user=user)
    if not form.is_valid():
        raise ValidationError({OF_FORM.get(name, "since"): list(texts) for name, texts in form.errors.items()})
    return form.cleaned_data


def with_label(text: str) -> Any:
    """The ids of the virtual keys that have a label, `name=value`.

    Raises:
        ValidationError: the text names no label.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValidationError({"label": "Expected name=value, such as project=atlas."})
    keys = VirtualKey.objects.filter(key_search.fits(text), labels__contains={name: value})
    return keys.order_by().values("pk")


def named(line: reports.ReportLine, groups: list[str]) -> dict[str, Any]:
    """The members that name a group."""
    found: dict[str, Any] = {}
    for name, label, by in zip(groups, line.labels, line.by, strict=True):
        member = WITH_ID.get(name)
        found |= {name: by} if member is None else {f"{member}_id": by, member: label}
    return found


def sums(line: reports.ReportLine, sees: bool) -> dict[str, Any]:
    """The measures of a line by name; who may not see prices sees what owners pay as the cost, too."""
    values = line.values or (Decimal(0),) * len(reports.MEASURES)  # of no group at all
    found = dict(zip(reports.MEASURES, values, strict=True))
    return found if sees else found | {"cost": found["charge"]}
