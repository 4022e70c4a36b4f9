"""GET /v1/usage in the OpenAPI document. The docstring of the method is its description."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from messages_api.endpoints.usage import UsageView
from messages_api.reference.parts import answer, failures, operation
from messages_api.reference.quota import money
from messages_api.reference.shapes import Schema, array, boolean, const, integer, obj, ref, string
from messages_api.reference.stored import when

COUNTS = {
    "calls": "Calls that reached a provider.",
    "estimated_calls": "Those of them whose tokens are estimated, because the provider's report is missing.",
    "input_tokens": "Input tokens, without those of caches.",
    "output_tokens": "Output tokens, with thinking.",
    "thinking_tokens": "Thinking tokens, which are a part of the output.",
    "cache_read_input_tokens": "Input tokens that were read from a cache.",
    "cache_creation_5m_input_tokens": "Input tokens that were written to a cache for 5 minutes.",
    "cache_creation_1h_input_tokens": "Input tokens that were written to a cache for an hour.",
    "web_search_requests": "Web searches of the provider.",
}
SCHEMAS: dict[str, Schema] = {
    "KeyUsageLine": obj(
        "What the key used of one model on one day.",
        " ".join(("date", "model", *COUNTS, "cost")),
        date={"type": "string", "format": "date", "description": "The day in UTC on which the calls began."},
        model=string("The model that answered, in lower case.", "claude-haiku-4-5"),
        **{name: integer(about, minimum=0) for name, about in COUNTS.items()},
        cost=money("The cost in USD."),
    ),
    "KeyUsage": obj(
        "What a virtual key has used.",
        "type virtual_key starting_at ending_at data has_more",
        type=const("usage"),
        virtual_key=string("The name of the virtual key.", "alice"),
        starting_at=when("The beginning of the range."),
        ending_at=when("The end of the range, which is not part of it."),
        data=array(ref("KeyUsageLine"), "A line for each day and model with calls; the earliest day first."),
        has_more=boolean("Whether the range has more lines than an answer may have: ask for fewer days."),
    ),
}
EXAMPLE = {
    "type": "usage",
    "virtual_key": "alice",
    "starting_at": "2026-10-19T00:00:00Z",
    "ending_at": "2026-11-18T00:00:00Z",
    "data": [
        {
            "date": "2026-11-17",
            "model": "claude-haiku-4-5",
            "calls": 3,
            "estimated_calls": 0,
            "input_tokens": 1200,
            "output_tokens": 350,
            "thinking_tokens": 0,
            "cache_read_input_tokens": 8000,
            "cache_creation_5m_input_tokens": 0,
            "cache_creation_1h_input_tokens": 0,
            "web_search_requests": 0,
            "cost": "0.00375",
        }
    ],
    "has_more": False,
}
DAY = {"type": "string", "examples": ["2026-11-01", "2026-11-01T00:00:00Z"]}
SPAN = [
    OpenApiParameter("starting_at", DAY, description="The first day, in UTC. Default: 30 days before the end."),
    OpenApiParameter(
        "ending_at",
        DAY,
        description="The day after the last one, in UTC. Default: tomorrow, or 30 days after the start. The range has "
        "at most 31 days.",
    ),
]


class UsagePage(UsageView):
    @operation(
        "get_usage",
        "Show what this key has used, by day and model",
        "quota",
        *SPAN,
        responses=answer("KeyUsage", "The usage of the range.", OpenApiExample("A day", EXAMPLE))
        | failures(400, 401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """Show the key's own calls, tokens and cost of the last 30 days, or of another range. Calls that ended a moment
        ago are included. This is free, and no budget or limit counts it."""


PATTERNS = [path("v1/usage", UsagePage.as_view())]
