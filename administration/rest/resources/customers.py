"""Customers and teams."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, ChoiceField

from administration.rest import filters
from administration.rest.members import Amount, Flag, Members, Moment, Text, Whole, number, texts
from administration.rest.resource import Added, Changed, Listed, Resource, assign, written
from keys import customers, pausing
from keys.errors import Unusable
from keys.models import MOST_TOKENS, Customer, Language, Team
from usage import key_rules
from usage.budgets import MOST, Period
from usage.key_rules import CEILING, MOST_DAYS, PERIODS, UNSAID, KeyRules


class CustomerMembers(Members):
    """A company or cost centre that is billed."""

    id = Whole(read_only=True)
    name = Text()
    time_zone = Text(required=False, max_length=60, help_text="IANA name of a place, such as Europe/Berlin, or UTC.")
    fiscal_year_month = Whole(required=False, min_value=1, max_value=12)
    language = ChoiceField(choices=Language.values, required=False, help_text="Language of refusals.")
    paused = Flag(read_only=True)
    created_at = Moment(read_only=True)


def usd(text: str) -> Amount:
    """An amount that may be missing."""
    return Amount(required=False, allow_null=True, default=None, help_text=f"USD. {text}")


def at_most(most: int, text: str) -> Whole:
    """A whole number that may be missing."""
    return Whole(required=False, allow_null=True, default=None, min_value=1, max_value=most, help_text=text)


class KeyRulesMembers(Members):
    """What a team's new keys get if nothing is said, and ceilings (`most_…`) that the team's admins can't pass.

    A member that is left out is not kept: it is null.
    """

    period = ChoiceField(choices=PERIODS, required=False, default=Period.MONTH.value, help_text="Of both amounts.")
    budget = usd(UNSAID)
    most_budget = usd(CEILING)
    rpm = at_most(int(MOST), UNSAID)
    most_rpm = at_most(int(MOST), CEILING)
    input_tpm = at_most(int(MOST), UNSAID)
    most_input_tpm = at_most(int(MOST), CEILING)
    output_tpm = at_most(int(MOST), UNSAID)
    most_output_tpm = at_most(int(MOST), CEILING)
    parallel = at_most(int(MOST), UNSAID)
    most_parallel = at_most(int(MOST), CEILING)
    days = at_most(MOST_DAYS, UNSAID)
    most_days = at_most(MOST_DAYS, CEILING)
    allowed_models = texts(required=False, default=list, help_text="Names and patterns (claude-*). Empty: all.")


class TeamMembers(Members):
    """A group within a customer that shares virtual keys."""

    FIXED = ("customer_id",)

    id = Whole(read_only=True)
    customer_id = number()
    customer = CharField(read_only=True, source="customer.name")
    name = Text()
    max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_TOKENS)
    default_max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_TOKENS)
    key_rules = KeyRulesMembers(required=False, allow_null=True, help_text="Rules for its keys. Null: there are none.")
    paused = Flag(read_only=True)
    created_at = Moment(read_only=True)


class Nothing(Members):
    """An empty object."""


class Pausable(Resource):
    """Rows whose calls can be refused until they are resumed."""

    def set_paused(self, paused: bool) -> Response:
        """Pause or resume the row of the URL."""
        self.taken(Nothing)
        row = self.row(locked=True)
        self.require("pause", row)
        (pausing.pause if paused else pausing.resume)(row)
        return self.shown(self.again(row.pk))

    @action(detail=True, methods=["post"], takes=Nothing)
    @written
    def pause(self, request: Request, pk: Any) -> Response:
        """Refuse its calls until it is resumed."""
        return self.set_paused(True)

    @action(detail=True, methods=["post"], takes=Nothing)
    @written
    def resume(self, request: Request, pk: Any) -> Response:
        """Accept its calls again."""
        return self.set_paused(False)


class Customers(Pausable, Listed, Added, Changed):
    """Companies or cost centres that are billed."""

    scope = "customers"
    noun = "customers"
    queryset = Customer.objects.all()
    serializer_class = CustomerMembers
    filters: ClassVar = {"name": filters.by_text("name")}

    def add(self, values: dict[str, Any]) -> Customer:
        """Save a new customer."""
        row = Customer(**values)
        self.require("add", row)
        customers.save(row)
        return row

    def change(self, row: Customer, values: dict[str, Any]) -> None:
        """Save these values."""
        assign(row, values)
        customers.save(row)


class Teams(Pausable, Listed, Added, Changed):
    """Groups within customers that share virtual keys."""

    scope = "teams"
    noun = "teams"
    queryset = Team.objects.select_related("key_rules")
    serializer_class = TeamMembers
    filters: ClassVar = {"customer_id": filters.by_id("customer"), "name": filters.by_text("name")}

    def add(self, values: dict[str, Any]) -> Team:
        """Save a new team."""
        self.chosen(Customer, values["customer_id"], "customer_id")
        rules = values.pop("key_rules", None)
        row = Team(**values)
        self.require("add", row)
        customers.save(row)
        if rules is not None:
            self.put_rules(row, rules)
        return row

    def change(self, row: Team, values: dict[str, Any]) -> None:
        """Save these values."""
        if "key_rules" in values:
            self.put_rules(row, values.pop("key_rules"))
        assign(row, values)
        customers.save(row)

    def put_rules(self, row: Team, rules: dict[str, Any] | None) -> None:
        """Replace or remove the rules for a team's keys, if the person may.

        Raises:
            Unusable: a rule is invalid.
        """
        self.require("change", KeyRules(team=row))
        try:
            key_rules.put(row, rules)
        except Unusable as error:
            raise Unusable(str(error), {f"key_rules.{name}": texts for name, texts in error.fields.items()}) from None
