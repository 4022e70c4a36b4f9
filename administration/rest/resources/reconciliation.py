"""Providers' figures beside ours, and adjustments of estimates."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework.decorators import action
from rest_framework.fields import CharField
from rest_framework.request import Request
from rest_framework.response import Response

from administration.reconciliation import sums
from administration.rest import filters
from administration.rest.filters import a_moment
from administration.rest.members import Amount, Members, Moment, Text, Whole, number
from administration.rest.resource import Added, Listed, written
from keys.errors import Conflict
from keys.models import ProviderKey
from reconciliation import adjusting
from reconciliation.adjustment_runs import AdjustmentRun
from reconciliation.comparisons import CAUSES, Comparison
from reconciliation.reports.rows import EXACT


@extend_schema_field({"type": "string", "format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"})
class Exact(Amount):
    """A decimal number with all digits of a provider's report."""

    def to_representation(self, value: Decimal) -> str:
        """The number without zeros at its end."""
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


class CauseMembers(Members):
    """What explains the difference, in USD. With `unexplained`, the parts sum to it exactly."""

    other_use = Exact(signed=True, help_text="Requests on this key that the gateway never sent.")
    estimates = Exact(signed=True, help_text="The ledger's estimates, and interrupted calls.")
    hour_edges = Exact(signed=True, help_text="Calls that begin in one hour and end in another.")
    late_revision = Exact(signed=True, help_text="The provider has changed its figures.")
    discount = Exact(signed=True, help_text="The contract's discount, which the price book lacks.")
    price_book = Exact(signed=True, help_text="The provider's list price isn't that of the price book.")
    fees = Exact(signed=True, help_text="Fees that aren't for tokens.")


assert set(CauseMembers().fields) == set(CAUSES)


class ComparisonMembers(Members):
    """One hour (or day), provider key, model and mode. Without a provider key, it is a use of the same account that
    isn't the gateway's."""

    id = Whole()
    start = Moment()
    hours = Whole(help_text="1, or 24 where the provider reports days.")
    provider_key_id = Whole(allow_null=True)
    api_key_id = CharField(help_text="The provider's id of a key that isn't ours; empty: no key, or ours.")
    model = CharField()
    mode = CharField(help_text="Service tier, fast mode and residency: `standard`, `batch`, `standard fast us`.")
    their_requests = Whole(allow_null=True, help_text="Null: the report has no counts.")
    our_requests = Whole()
    unsent_requests = Whole(help_text="Their requests that the gateway never sent.")
    estimated_calls = Whole()
    their_tokens = Whole()
    our_tokens = Whole()
    theirs = Exact(signed=True, help_text="USD that the provider charges.")
    listed = Exact(signed=True, allow_null=True, help_text="USD for tokens before discounts; null: not reported.")
    ours = Exact(signed=True, help_text="USD in the ledger, with adjustments.")
    difference = Exact(signed=True, help_text="`theirs` - `ours`.")
    causes = CauseMembers(source="*")
    unexplained = Exact(signed=True)
    adjustable = Exact(signed=True, help_text="USD by which adjustments of estimates may change it.")


class SummedMembers(Members):
    """A provider key's comparisons of a range, added up."""

    provider_key_id = Whole()
    provider_key = CharField()
    their_requests = Whole(allow_null=True, help_text="Null: no report of the range has counts.")
    our_requests = Whole()
    unsent_requests = Whole(help_text="Their requests that the gateway never sent.")
    estimated_calls = Whole()
    theirs = Exact(signed=True, help_text="USD that the provider charges.")
    ours = Exact(signed=True, help_text="USD in the ledger, with adjustments.")
    difference = Exact(signed=True, help_text="`theirs` - `ours`.")
    causes = CauseMembers(source="*")
    unexplained = Exact(signed=True)
    adjustable = Exact(signed=True, help_text="USD by which adjustments of estimates may change it.")


class SumsMembers(Members):
    """The sums of a range by provider key."""

    data = SummedMembers(many=True)  # type: ignore[assignment]


MOMENT: dict[str, Any] = {"type": "string", "format": "date-time"}
RANGE = {
    name: filters.Parameter(a_moment, "a time in RFC 3339", MOMENT, text, required=True)
    for name, text in (("since", "The beginning of the range."), ("until", "Its end, which is excluded."))
}


class Comparisons(Listed):
    """What providers report beside what the ledger has, and what explains each difference. Rows are made again as
    reports are read."""

    scope = "reconciliation"
    noun = "comparisons"
    queryset = Comparison.objects.all()
    serializer_class = ComparisonMembers
    filters: ClassVar = {
        "provider_key_id": filters.by_id("provider_key"),
        "model": filters.by_text("model"),
        "since": filters.by_moment("start__gte"),
        "until": filters.by_moment("start__lt"),
    }

    @action(detail=False, methods=["get"], returns=SumsMembers, parameters=RANGE)
    def sums(self, request: Request) -> Response:
        """Both sides of each provider key in a range, with what explains the difference."""
        given = self.given()
        self.require_any("view")
        rows = self.rows().filter(provider_key__isnull=False, start__gte=given["since"], start__lt=given["until"])
        found = sums.lines(rows, "provider_key_id", "provider_key__name")
        data = [line.values | line.about | {"provider_key": line.about["provider_key__name"]} for line in found]
        for each in data:
            each["difference"] = EXACT.subtract(each["theirs"], each["ours"])
        answer: Any = SumsMembers({"data": data})
        return Response(dict(answer.data))


class AdjustedMembers(Members):
    """Adjustments of estimates that were written together: of a provider key, in a range of at most 31 days."""

    id = Whole(read_only=True)
    provider_key_id = number()
    since = Moment()
    until = Moment()
    reason = Text()
    author = CharField(read_only=True)
    made_at = Moment(read_only=True)
    calls = Whole(read_only=True)
    cost = Amount(signed=True, read_only=True, help_text="USD that the provider charges more.")
    charge = Amount(signed=True, read_only=True, help_text="USD that owners pay more.")
    undoes_id = Whole(read_only=True, allow_null=True, help_text="The run that it takes back.")


class TakeBackMembers(Members):
    """Why adjustments are taken back."""

    reason = Text()


class AdjustedCustomerMembers(Members):
    """What adjustments would change for a customer."""

    customer_id = Whole(source="customer.pk")
    customer = CharField(source="customer.name")
    calls = Whole()
    charged_before = Amount(signed=True, source="before")
    charge = Amount(signed=True)
    cost = Amount(signed=True)


class PreviewMembers(Members):
    """What adjustments would change. Nothing is written."""

    calls = Whole()
    cost = Amount(signed=True)
    charge = Amount(signed=True)
    left = Amount(signed=True, help_text="USD that can't be placed: it would pass what was held.")
    customers = AdjustedCustomerMembers(many=True)


class RangeMembers(Members):
    """Whose estimates, and of which time: at most 31 days."""

    provider_key_id = number()
    since = Moment()
    until = Moment()


class AdjustedEstimates(Listed, Added):
    """Adjustments of estimated and interrupted calls to what the provider reports, where its counts agree with the
    gateway's. They are offered, previewed, written with a reason, and taken back as a whole."""

    scope = "reconciliation"
    noun = "adjustments of estimates"
    queryset = AdjustmentRun.objects.all()
    serializer_class = AdjustedMembers
    newest_first = True
    filters: ClassVar = {"provider_key_id": filters.by_id("provider_key")}

    def add(self, values: dict[str, Any]) -> AdjustmentRun:
        """Write the adjustments of a range.

        Raises:
            Conflict: there is nothing to adjust.
        """
        key = self.key_of(values)
        self.require("add", AdjustmentRun(provider_key=key))
        author = self.request.user.get_username()
        run = adjusting.adjust(key, values["since"], values["until"], reason=values["reason"], author=author)
        if run is None:
            raise Conflict("there is nothing to adjust in this range")
        return run

    def key_of(self, values: dict[str, Any]) -> ProviderKey:
        """The provider key that a body names.

        Raises:
            ValidationError: there is no such key, or the range ends before it starts.
        """
        if values["until"] <= values["since"]:
            raise ValidationError({"until": "The range ends before it starts."})
        key = ProviderKey.objects.filter(pk=values["provider_key_id"]).first()
        if key is None:
            raise ValidationError({"provider_key_id": f"There is no provider key {values['provider_key_id']}."})
        return key

    @action(detail=False, methods=["post"], takes=RangeMembers, returns=PreviewMembers)
    def preview(self, request: Request) -> Response:
        """Say what adjusting the estimates of a range would change, by customer. Nothing is written."""
        values = self.taken()
        self.require_any("add")
        found = adjusting.preview(self.key_of(values), values["since"], values["until"])
        shown = {"calls": len(found.changes), "cost": found.cost, "charge": found.charge, "left": found.left}
        return Response(dict(PreviewMembers(shown | {"customers": found.by_customer()}).data))

    @action(detail=True, methods=["post"], takes=TakeBackMembers)
    @written
    def take_back(self, request: Request, pk: Any) -> Response:
        """Write a counter-adjustment for each adjustment of a run. The answer is the run that takes it back."""
        values = self.taken()
        row = self.row(locked=True)
        self.require("add", row)
        counter = adjusting.take_back(row, reason=values["reason"], author=request.user.get_username())
        return self.shown(self.again(counter.pk))
