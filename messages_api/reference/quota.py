"""What the OpenAPI document says of GET /v1/quota."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema

from messages_api.quota_view import QuotaView
from messages_api.reference.parts import ANSWER_HEADERS, SECURITY, failures
from messages_api.reference.shapes import Schema, array, boolean, const, enum, integer, obj, or_null, ref, string
from messages_api.reference.stored import when
from usage.budgets import Enforcement, LimitKind, Period, Unit
from usage.standing import OWNERS


def money(about: str) -> Schema:
    """An exact amount in the budget's unit."""
    return string(about, "99.584", pattern=r"^-?[0-9]+(\.[0-9]+)?$")


APPLIES: dict[str, Schema] = {
    "owner": obj(
        "Whose it is: all calls of all keys of the owner count.",
        "type name",
        type=enum("Whether it is a customer, a team or a virtual key.", *OWNERS),
        name=string("The owner's name.", "Research"),
    ),
    "provider_key": or_null(string("Calls to this provider key only; null: all.", "main")),
    "models": array(
        string("A model or a pattern.", "claude-opus-*"), "Models and patterns that it is for; empty: all."
    ),
}
SCHEMAS: dict[str, Schema] = {
    "QuotaBudget": obj(
        "A budget that applies to the key's calls, in its current window.",
        "owner provider_key models unit period rolling enforcement amount spent held left"
        " exhausted_since starts_at resets_at resets_at_local",
        **APPLIES,
        unit=enum("What it counts; tokens are all that a model reads and writes.", *Unit.values),
        period=enum("How long a window is; `none` is prepaid, without a reset.", *Period.values),
        rolling=boolean("Whether windows begin with the first use instead of with the calendar."),
        enforcement=enum("Whether it refuses, alerts, or holds what calls cost lately.", *Enforcement.values),
        amount=money("What may be spent in the window, overrides included."),
        spent=money("What was."),
        held=money("What calls under way may still cost."),
        left=money("What a call may need at the most; below zero where more was spent than there was."),
        exhausted_since=when("When it first refused a call in this window. Null: it has refused none.", maybe=True),
        starts_at=when(
            "When the window began. Null: it is prepaid, or rolling and begins with the next call.", maybe=True
        ),
        resets_at=when("When it ends, in UTC. Null: never, or not known before the next call.", maybe=True),
        resets_at_local=when("The same moment, by the customer's clocks.", maybe=True),
    ),
    "QuotaLimit": obj(
        "A limit that applies to the key's calls.",
        "owner provider_key models kind limit burst remaining resets_at",
        **APPLIES,
        kind=enum("Requests, input or output tokens a minute; or calls at once.", *LimitKind.values),
        limit=integer("How many.", 60, minimum=1),
        burst=or_null(integer("What may come at once; null for calls at once.", 10, minimum=1)),
        remaining=integer("What may come now.", 9, minimum=0),
        resets_at=when("When all of the burst may come again; null for calls at once.", maybe=True),
    ),
    "Quota": obj(
        "How the budgets and limits of a virtual key stand.",
        "type virtual_key team customer time_zone as_of max_tokens budgets limits",
        type=const("quota"),
        virtual_key=string("Its name.", "alice"),
        team=or_null(string("Its team's.", "Research")),
        customer=string("Who pays.", "Acme"),
        time_zone=string("The customer's, in which days and months begin.", "Europe/Berlin"),
        as_of=when("When this was so."),
        max_tokens=obj(
            "How long answers may be.",
            "ceiling default",
            ceiling=or_null(integer("A request that asks for more is refused; null: none is.", 32000, minimum=1)),
            default=or_null(integer("For requests that name none; null: they are refused.", 4096, minimum=1)),
        ),
        budgets=array(ref("QuotaBudget"), "All of them must allow a call."),
        limits=array(ref("QuotaLimit"), "Likewise."),
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
    """What is said of GET /v1/quota."""

    @extend_schema(
        operation_id="get_quota",
        summary="What is left of this key's budgets and limits",
        tags=["quota"],
        parameters=ANSWER_HEADERS,
        auth=SECURITY,
        responses={
            (200, "application/json"): OpenApiResponse(
                ref("Quota"),
                description="How they stand.",
                examples=[OpenApiExample("A month", EXAMPLE, response_only=True)],
            )
        }
        | failures(401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """The key's own, its team's and its customer's. Free, and exempt from all of them."""


PATTERNS = [path("v1/quota", QuotaPage.as_view())]
