"""GET /v1/quota in the OpenAPI document. The docstring of the method is its description."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample

from messages_api.endpoints.quota import QuotaView
from messages_api.reference.parts import answer, failures, operation
from messages_api.reference.shapes import Schema, array, boolean, const, enum, integer, obj, or_null, ref, string
from messages_api.reference.stored import when
from usage.budgets import OWNERS, Enforcement, Period, Unit
from usage.limits import LimitKind


def money(about: str) -> Schema:
    """The schema of an exact amount in the budget's unit."""
    return string(about, "99.584", pattern=r"^-?[0-9]+(\.[0-9]+)?$")


APPLIES: dict[str, Schema] = {
    "owner": obj(
        "The owner: all calls of all keys of the owner count.",
        "type name",
        type=enum("A customer, a team or a virtual key.", *OWNERS),
        name=string("The owner's name.", "Research"),
    ),
    "provider_key": or_null(string("Only calls to this provider key count; null: all calls.", "main")),
    "models": array(
        string("A model or a pattern.", "claude-opus-*"), "Only calls to these models count; empty: all calls."
    ),
}
SCHEMAS: dict[str, Schema] = {
    "QuotaBudget": obj(
        "A budget that applies to the key's calls, in its current window.",
        "owner provider_key models unit period rolling enforcement amount spent held left"
        " exhausted_since starts_at resets_at resets_at_local",
        **APPLIES,
        unit=enum("The unit of the amounts; tokens include all that a model reads and writes.", *Unit.values),
        period=enum("The length of a window; `none`: the budget is prepaid and has no reset.", *Period.values),
        rolling=boolean("Whether windows begin with the first use instead of with the calendar."),
        enforcement=enum(
            "Whether the budget refuses calls, only alerts, or holds the recent cost of such calls.",
            *Enforcement.values,
        ),
        amount=money("The amount that may be spent in the window, with overrides."),
        spent=money("The amount that was spent in the window."),
        held=money("The amount that calls under way may still cost."),
        left=money("The most that a new call may cost; negative if the budget is overspent."),
        exhausted_since=when("When it first refused a call in this window. Null: it has refused no call.", maybe=True),
        starts_at=when(
            "When the window began. Null: the budget is prepaid, or rolling and begins with the next call.", maybe=True
        ),
        resets_at=when("When the window ends, in UTC. Null: never, or unknown before the next call.", maybe=True),
        resets_at_local=when("The same time, in the customer's time zone.", maybe=True),
    ),
    "QuotaLimit": obj(
        "A limit that applies to the key's calls.",
        "owner provider_key models kind limit burst remaining resets_at",
        **APPLIES,
        kind=enum("Requests, input tokens or output tokens per minute; or concurrent calls.", *LimitKind.values),
        limit=integer("The most per minute, or the most concurrent calls.", 60, minimum=1),
        burst=or_null(integer("The most at once; null for concurrent calls.", 10, minimum=1)),
        remaining=integer("The number that is available now.", 9, minimum=0),
        resets_at=when("When the whole burst is available again; null for concurrent calls.", maybe=True),
    ),
    "Quota": obj(
        "The state of the budgets and limits of a virtual key.",
        "type virtual_key team customer time_zone as_of max_tokens this_month budgets limits",
        type=const("quota"),
        virtual_key=string("The name of the virtual key.", "alice"),
        team=or_null(string("The name of its team.", "Research")),
        customer=string("The customer who pays.", "Acme"),
        time_zone=string("The customer's time zone, in which days and months begin.", "Europe/Berlin"),
        as_of=when("The time of this state."),
        max_tokens=obj(
            "Bounds on `max_tokens` of requests.",
            "ceiling default",
            ceiling=or_null(integer("The highest value that is allowed; null: any.", 32000, minimum=1)),
            default=or_null(integer("The value for requests without one; null: they are refused.", 4096, minimum=1)),
        ),
        this_month=obj(
            "What this key has used since the month began in the customer's time zone, with or without a budget.",
            "starts_at ends_at calls spent",
            starts_at=when("When the month began."),
            ends_at=when("When the month ends."),
            calls=integer("Calls that reached a provider and are settled.", 12, minimum=0),
            spent=money("What they cost, in USD."),
        ),
        budgets=array(ref("QuotaBudget"), "The budgets; all of them must allow a call."),
        limits=array(ref("QuotaLimit"), "The limits; all of them must allow a call."),
    ),
}
EVERYBODYS: dict[str, Any] = {"owner": {"type": "team", "name": "Research"}, "provider_key": None, "models": []}
EXAMPLE = {
    "type": "quota",
    "virtual_key": "alice",
    "team": "Research",
    "customer": "Acme",
    "time_zone": "Europe/Berlin",
    "as_of": "2026-11-17T12:00:00Z",
    "max_tokens": {"ceiling": 32000, "default": 4096},
    "this_month": {
        "starts_at": "2026-10-31T23:00:00Z",
        "ends_at": "2026-11-30T23:00:00Z",
        "calls": 12,
        "spent": "0.4",
    },
    "budgets": [
        EVERYBODYS
        | {
            "unit": "usd",
            "period": "month",
            "rolling": False,
            "enforcement": "hard",
            "amount": "100",
            "spent": "0.4",
            "held": "0.016",
            "left": "99.584",
            "exhausted_since": None,
            "starts_at": "2026-10-31T23:00:00Z",
            "resets_at": "2026-11-30T23:00:00Z",
            "resets_at_local": "2026-12-01T00:00:00+01:00",
        }
    ],
    "limits": [
        EVERYBODYS | {"kind": "rpm", "limit": 60, "burst": 10, "remaining": 9, "resets_at": "2026-11-17T12:00:01Z"}
    ],
}


class QuotaPage(QuotaView):
    @operation(
        "get_quota",
        "Show what is left of this key's budgets and limits",
        "quota",
        responses=answer("Quota", "The state of the budgets and limits.", OpenApiExample("A month", EXAMPLE))
        | failures(401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """Show the budgets and limits of the key, its team and its customer. This is free, and none of them counts
        it."""


PATTERNS = [path("v1/quota", QuotaPage.as_view())]
