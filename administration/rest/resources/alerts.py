"""Alerts, and the addresses that they are sent to."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, ChoiceField

from administration.rest import filters
from administration.rest.members import Amount, Flag, Members, Moment, Text, Whole, number
from administration.rest.resource import Added, Changed, Listed, assign
from administration.rest.resources.customers import Nothing
from keys.models import Customer
from usage import alert_sending, alert_targets
from usage.alerts import Alert, AlertTarget, Channel


class AlertMembers(Members):
    """An event that people should know about. Amounts are in the budget's unit."""

    id = Whole()
    at = Moment()
    about = CharField(
        help_text="`threshold`, `exhausted`, `overrun`, `expiry`, `refused_provider_key`, `doubtful_usage`, "
        "`unsent_requests` or `miscounted`."
    )
    budget_id = Whole(allow_null=True)
    virtual_key_id = Whole(allow_null=True)
    provider_key_id = Whole(allow_null=True)
    threshold = Whole(help_text="Percent; 0 for an alert that is about no threshold.")
    spent = Amount(signed=True)
    held = Amount(signed=True, allow_null=True)
    needed = Amount(allow_null=True)
    amount = Amount()
    http_status = Whole(allow_null=True)
    window_start = Moment(source="start")
    delivered_at = Moment(allow_null=True)
    unsent = CharField(help_text="Why it isn't sent; empty if it is.")


class Alerts(Listed):
    """Budgets that pass a threshold or refuse calls, calls that cost more than was held, keys that expire, refused
    provider keys, roll-ups that differ from the ledger."""

    scope = "alerts"
    noun = "alerts"
    queryset = Alert.objects.all()
    serializer_class = AlertMembers
    newest_first = True
    filters: ClassVar = {
        "budget_id": filters.by_id("budget"),
        "virtual_key_id": filters.by_id("virtual_key"),
        "provider_key_id": filters.by_id("provider_key"),
        "since": filters.by_moment("at__gte"),
        "until": filters.by_moment("at__lt"),
    }
    volatile = ("delivered_at", "unsent")


class TargetMembers(Members):
    """An address that receives alerts about one customer, or about all of them."""

    id = Whole(read_only=True)
    channel = ChoiceField(choices=Channel.values)
    customer_id = number(required=False, allow_null=True, help_text="Null: alerts about all customers.")
    address = Text(max_length=500, help_text="An e-mail address, or a webhook's URL.")
    secret = Text(
        write_only=True, required=False, help_text=f"Signs a webhook's requests: {alert_targets.LEAST_SECRET} or more."
    )
    active = Flag(required=False)
    created_at = Moment(read_only=True)


class TestedMembers(Members):
    """The result of a test message."""

    delivered = Flag(help_text="A webhook answered 2xx, or the mail server took the message.")
    message = CharField(
        help_text="The same as a sentence. Of a webhook, only the log of the gateway says why it failed."
    )


class AlertTargets(Listed, Added, Changed):
    """Addresses that alerts are sent to. They can't be removed, only switched off: deliveries refer to them."""

    scope = "alerts"
    noun = "alert targets"
    queryset = AlertTarget.objects.all()
    serializer_class = TargetMembers
    filters: ClassVar = {"customer_id": filters.by_id("customer")}

    def add(self, values: dict[str, Any]) -> AlertTarget:
        """Save a new target."""
        secret = values.pop("secret", "")
        self.chosen(Customer, values.get("customer_id"), "customer_id")
        row = AlertTarget(**values)
        self.require("add", row)
        alert_targets.save(row, secret)
        return row

    def change(self, row: AlertTarget, values: dict[str, Any]) -> None:
        """Save these values. A changed address needs the secret again."""
        secret = values.pop("secret", "")
        if "customer_id" in values:
            self.chosen(Customer, values["customer_id"], "customer_id")
        assign(row, values)
        self.require("change", row)
        alert_targets.save(row, secret)

    @action(detail=True, methods=["post"], takes=Nothing, returns=TestedMembers)
    def test(self, request: Request, pk: Any) -> Response:
        """Send a test message now, also to a target that is switched off. A message that isn't delivered is a 200 that
        says so."""
        self.taken()
        row = self.row()
        self.require("change", row)
        found = alert_sending.send_test(row)
        return Response({"delivered": found.delivered, "message": found.said})
