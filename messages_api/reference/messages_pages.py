"""The operations on messages and models in the OpenAPI document. The docstrings of methods are its descriptions."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from messages_api.endpoints.messages import CountTokensView, MessagesView
from messages_api.endpoints.models import ModelsView, ModelView
from messages_api.reference.parts import CALL_HEADERS, QUESTION, ROUTED_HEADERS, answer, failures, operation
from messages_api.reference.shapes import ERRORS, obj, ref, string
from messages_api.stored.model_list import LIFECYCLES

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
EVENT_STREAM = obj(
    "A server-sent event. A stream that fails ends with an `error`. A silent stream gets a `ping` from time to time.",
    "event data",
    event=string("The `type` of its data.", "content_block_delta"),
    data=string("JSON.", contentMediaType="application/json", contentSchema=ref("StreamEvent")),
)
BETA = OpenApiParameter("beta", {"type": "string"}, description="Older SDKs send `true`; it has no effect.")


class MessagesPage(MessagesView):
    @operation(
        "create_message",
        "Ask a model",
        "messages",
        BETA,
        *CALL_HEADERS,
        *ROUTED_HEADERS,
        request={"application/json": ref("MessagesRequest")},
        examples=[OpenApiExample(name, request, request_only=True) for name, request in EXAMPLES.items()],
        responses={
            (200, "application/json"): OpenApiResponse(
                ref("Message"),
                description="The model's answer, or a stream of its events if the request sets `stream`.",
                examples=[OpenApiExample("An answer", ANSWER, response_only=True)],
            ),
            (200, "text/event-stream"): OpenApiResponse(
                EVENT_STREAM,
                description="The model's answer, or a stream of its events if the request sets `stream`.",
                examples=[OpenApiExample("Events", STREAM, media_type="text/event-stream", response_only=True)],
            ),
        }
        | failures(*ERRORS),
    )
    def post(self, request: Any) -> Any:
        """Send a request to a model. The key's customer pays for it: the budgets hold the highest possible cost before
        the call, and settle the real cost afterwards."""


class CountTokensPage(CountTokensView):
    @operation(
        "count_tokens",
        "Count a prompt's tokens",
        "messages",
        BETA,
        *CALL_HEADERS,
        *ROUTED_HEADERS,
        request={"application/json": ref("CountTokensRequest")},
        examples=[
            OpenApiExample("A question", {"model": "claude-opus-5-5", "messages": [QUESTION]}, request_only=True)
        ],
        responses=answer("TokenCount", "The length of the prompt.", OpenApiExample("A length", {"input_tokens": 12}))
        | failures(*ERRORS),
    )
    def post(self, request: Any) -> Any:
        """Count the tokens of a prompt, for the models that the key may use. This is free, and budgets don't count
        it."""


class ModelsPage(ModelsView):
    @operation(
        "list_models",
        "List the models that this key may use",
        "models",
        OpenApiParameter(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
            description="The most models on the page.",
        ),
        OpenApiParameter("after_id", {"type": "string"}, description="Returns the page after this model."),
        OpenApiParameter("before_id", {"type": "string"}, description="Returns the page before this model."),
        OpenApiParameter(
            "lifecycle[]",
            {"type": "array", "items": {"type": "string", "enum": list(LIFECYCLES)}},
            description="Lists models with these lifecycles; by default those that can be called.",
        ),
        responses=answer("ModelPage", "A page of models.") | failures(400, 401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """List the models of all providers of the key."""


class ModelPage(ModelView):
    @operation(
        "get_model",
        "Describe a model",
        "models",
        OpenApiParameter(
            "model", {"type": "string"}, OpenApiParameter.PATH, description="The model's id, or an alias of it."
        ),
        responses=answer("Model", "The model.") | failures(400, 401, 403, 404, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any, model: str) -> Any:
        """Describe a model. For an alias, the answer describes the model that it stands for."""


PATTERNS = [
    path("v1/messages", MessagesPage.as_view()),
    path("v1/messages/count_tokens", CountTokensPage.as_view()),
    path("v1/models", ModelsPage.as_view()),
    path("v1/models/<str:model>", ModelPage.as_view()),
]
