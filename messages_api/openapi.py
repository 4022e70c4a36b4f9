"""The OpenAPI document of the endpoints: drf-spectacular puts it together from what is said of each view here."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from messages_api import components
from messages_api.components import ERRORS, ref
from messages_api.models_view import ModelsView, ModelView
from messages_api.views import CountTokensView, MessagesView

ABOUT = """The Anthropic Messages API, for the holders of virtual keys (`sk-bf-…`).

What is sent to a model of Anthropic's passes byte for byte, and so does the answer; members, blocks and headers that
this page doesn't know pass too. What is known to be wrong is refused before it costs anything. An answer has the
gateway's request id in `x-bf-request-id`; `request-id` is the provider's, where one was asked."""

SECURITY: list[Any] = [{"bearer": []}, {"apiKey": []}, {"virtualKey": []}]
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A virtual key (`sk-bf-…`), a gateway token, or a provider's own key where the deployment lets "
        "those through.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as older SDKs send it.",
    },
    "virtualKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-bf-vk",
        "description": "The same, for clients that fill the other two.",
    },
}
# Clients are configured with any of these, and append /v1/… to it.
SERVERS = [{"url": url} for url in ("/", "/anthropic", "/pydanticai/anthropic", "/pydanticai")]

SETTINGS: dict[str, Any] = {
    "TITLE": "Messages gateway",
    "DESCRIPTION": ABOUT,
    "VERSION": "v1",
    "OAS_VERSION": "3.1.0",
    "SERVERS": SERVERS,
    "APPEND_COMPONENTS": {"schemas": components.SCHEMAS, "securitySchemes": SECURITY_SCHEMES},
    "SORT_OPERATIONS": False,
    # The one that there is moves enums into components, and one over another of the same name.
    "POSTPROCESSING_HOOKS": [],
}
# Swagger UI sets styles in place and carries its icons with it.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

QUESTION = {"role": "user", "content": "Hello, Claude"}
USAGE = {
    "input_tokens": 12,
    "output_tokens": 6,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}
ANSWER = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
TOOL = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
EXAMPLES = {
    "A question": {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": [QUESTION]},
    "A stream": {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": [QUESTION], "stream": True},
    "A forced tool": {
        "model": "claude-opus-5-5",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "What is the weather in Bonn?"}],
        "tools": [TOOL],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    },
    "Thinking and fallbacks": {
        "model": "claude-opus-5-5",
        "max_tokens": 4096,
        "messages": [QUESTION],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "fallbacks": ["claude-haiku-4-5", "bedrock/claude-haiku-4-5"],
    },
    "A cached system prompt": {
        "model": "claude-opus-5-5",
        "max_tokens": 1024,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [QUESTION],
    },
    "A document to cite": {
        "model": "claude-opus-5-5",
        "max_tokens": 1024,
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "The grass is green."},
                        "title": "The grass",
                        "context": "From a diary.",
                        "citations": {"enabled": True},
                    },
                    {"type": "text", "text": "What colour is the grass?"},
                ],
            }
        ],
    },
}
STREAM = """event: message_start
data: {"type":"message_start","message":{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant",\
"model":"claude-opus-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,\
"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello!"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":6}}

event: message_stop
data: {"type":"message_stop"}

"""
EVENT_STREAM = components.obj(
    "One of the server-sent events. A stream that fails ends with an `error`, a silent one gets a `ping` now and then.",
    "event data",
    event=components.string("The `type` of its data.", "content_block_delta"),
    data=components.string("JSON.", contentMediaType="application/json", contentSchema=ref("StreamEvent")),
)


def header(name: str, about: str, *examples: str, answers: bool | list[int] = False) -> OpenApiParameter:
    """A header of the request, or of the answers."""
    return OpenApiParameter(
        name,
        {"type": "string"} | ({"examples": list(examples)} if examples else {}),
        OpenApiParameter.HEADER,
        description=about,
        response=answers,
    )


ANSWER_HEADERS = [
    header("x-bf-request-id", "The gateway's id of this call.", answers=True),
    header("request-id", "The provider's id of this call, or the gateway's.", answers=True),
    header("x-should-retry", "`true` or `false`: whether trying again may help.", answers=[*ERRORS]),
    header("retry-after", "Seconds after which it may.", answers=[429, 503, 529]),
]
CALL_HEADERS = [
    header("anthropic-version", "Passed to the provider as it is.", "2023-06-01", "2026-10-21"),
    header("anthropic-beta", "Betas, separated by commas; passed as they are.", "mcp-client-2025-11-20"),
    header("x-request-id", "The caller's own id: recorded as a label, never used as an identity."),
    header("x-claude-code-session-id", "Recorded as a label; so are `-agent-id` and `-parent-agent-id`."),
]
BETA = OpenApiParameter("beta", {"type": "string"}, description="`true` from older SDKs; it changes nothing.")
SAID = {
    401: "No credential was sent. Send a virtual key (sk-bf-…) as x-api-key, as Authorization: Bearer, or as x-bf-vk.",
    404: "model: claude-nothing-1",
}


def failures(*statuses: int) -> dict[Any, OpenApiResponse]:
    """The errors that an endpoint may answer with, each with an example."""
    return {
        (status, "application/json"): OpenApiResponse(
            components.error([kind] if status != 429 else [kind, "billing_error"]) if status < 500 else ref("Error"),
            description=about,
            examples=[
                OpenApiExample(
                    kind,
                    {
                        "type": "error",
                        "error": {"type": kind, "message": SAID.get(status, about)},
                        "request_id": "req_bf_1",
                    },
                    response_only=True,
                )
            ],
        )
        for status, (kind, about) in ERRORS.items()
        if status in statuses
    }


class MessagesPage(MessagesView):
    """What is said of POST /v1/messages."""

    @extend_schema(
        operation_id="create_message",
        summary="Ask a model",
        tags=["messages"],
        request={"application/json": ref("MessagesRequest")},
        parameters=[BETA, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        examples=[OpenApiExample(name, request, request_only=True) for name, request in EXAMPLES.items()],
        responses={
            (200, "application/json"): OpenApiResponse(
                ref("Message"),
                description="The model's answer, or the events of it where `stream` was asked for.",
                examples=[OpenApiExample("An answer", ANSWER, response_only=True)],
            ),
            (200, "text/event-stream"): OpenApiResponse(
                EVENT_STREAM,
                description="The model's answer, or the events of it where `stream` was asked for.",
                examples=[OpenApiExample("Events", STREAM, media_type="text/event-stream", response_only=True)],
            ),
        }
        | failures(*ERRORS),
    )
    def post(self, request: Any) -> Any:
        """A message, paid for by the key's customer: its ceiling is held before the call, and settled afterwards."""


class CountTokensPage(CountTokensView):
    """What is said of POST /v1/messages/count_tokens."""

    @extend_schema(
        operation_id="count_tokens",
        summary="Count a prompt's tokens",
        tags=["messages"],
        request={"application/json": ref("CountTokensRequest")},
        parameters=[BETA, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        examples=[
            OpenApiExample("A question", {"model": "claude-opus-5-5", "messages": [QUESTION]}, request_only=True)
        ],
        responses={
            (200, "application/json"): OpenApiResponse(
                ref("TokenCount"),
                description="Its length.",
                examples=[OpenApiExample("A length", {"input_tokens": 12}, response_only=True)],
            )
        }
        | failures(*ERRORS),
    )
    def post(self, request: Any) -> Any:
        """Free, and exempt from budgets; for the models that the key may use."""


class ModelsPage(ModelsView):
    """What is said of GET /v1/models."""

    @extend_schema(
        operation_id="list_models",
        summary="List the models that this key may use",
        tags=["models"],
        parameters=[
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}),
            OpenApiParameter("after_id", {"type": "string"}, description="The page after this model."),
            OpenApiParameter("before_id", {"type": "string"}, description="The page before this model."),
            *ANSWER_HEADERS,
        ],
        auth=SECURITY,
        responses={(200, "application/json"): OpenApiResponse(ref("ModelPage"), description="A page of them.")}
        | failures(400, 401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """From all providers of the key."""


class ModelPage(ModelView):
    """What is said of GET /v1/models/{model}."""

    @extend_schema(
        operation_id="get_model",
        summary="Describe a model",
        tags=["models"],
        parameters=[OpenApiParameter("model", {"type": "string"}, OpenApiParameter.PATH), *ANSWER_HEADERS],
        auth=SECURITY,
        responses={(200, "application/json"): OpenApiResponse(ref("Model"), description="The model.")}
        | failures(400, 401, 403, 404, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any, model: str) -> Any:  # type: ignore[override]
        """An alias gives the model that it stands for."""


PATTERNS = [
    path("v1/messages", MessagesPage.as_view()),
    path("v1/messages/count_tokens", CountTokensPage.as_view()),
    path("v1/models", ModelsPage.as_view()),
    path("v1/models/<str:model>", ModelPage.as_view()),
]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    with patched_settings(SETTINGS):
        found: dict[str, Any] = SchemaGenerator(patterns=PATTERNS).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    for operation in (each for methods in found["paths"].values() for each in methods.values()):
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
    return found


def serve(request: HttpRequest) -> HttpResponse:
    """The document, for programs."""
    return HttpResponse(json.dumps(document(), ensure_ascii=False), content_type="application/json")


def show(request: HttpRequest) -> HttpResponse:
    """The document, for people. It loads nothing from elsewhere, and the browser sees to that."""
    page = render(request, "docs.html")
    page["content-security-policy"] = POLICY
    return page
