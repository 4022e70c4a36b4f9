"""Parts that several operations of the OpenAPI document share: credentials, headers, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from messages_api.reference import shapes
from messages_api.reference.shapes import ERRORS, ref

SECURITY: list[Any] = [{"bearer": []}, {"apiKey": []}, {"virtualKey": []}]
QUESTION = {"role": "user", "content": "Hello, Claude"}

Method = TypeVar("Method", bound=Callable[..., Any])


def header(name: str, about: str, *examples: str, answers: bool | list[int] = False) -> OpenApiParameter:
    """A header of the request, or of the answers with these statuses (True: all)."""
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
    header("x-should-retry", "`true` or `false`: whether a retry may succeed.", answers=[*ERRORS]),
    header("retry-after", "Seconds to wait before a retry.", answers=[429, 503, 529]),
]
CALL_HEADERS = [
    header("anthropic-version", "Passed to the provider unchanged.", "2023-06-01", "2026-10-21"),
    header("anthropic-beta", "Betas, separated by commas; passed unchanged.", "mcp-client-2025-11-20"),
    header("x-request-id", "The client's own id: recorded as a label, never used as an identity."),
    header("x-claude-code-session-id", "Recorded as a label; so are `-agent-id` and `-parent-agent-id`."),
]
ROUTED_HEADERS = [
    header("x-bf-provider", "The provider of the model that answered.", "anthropic", answers=[200]),
    header("x-bf-model", "The model that answered, by the provider's name.", "claude-haiku-4-5", answers=[200]),
    header("x-bf-attempts", "The number of attempts: retries, other provider keys, fallbacks.", answers=[200]),
    header("x-stainless-retry-count", "If above 0, the client retries itself, and the gateway makes one attempt only."),
    header("x-stainless-timeout", "The client's time-out in seconds: retries start in the first half of it."),
]
EXAMPLES = {
    401: "No credential was sent. Send a virtual key (sk-bf-…) as x-api-key, as Authorization: Bearer, or as x-bf-vk.",
    404: "model: claude-nothing-1",
}


def operation(
    name: str, summary: str, tag: str, *parameters: OpenApiParameter, **more: Any
) -> Callable[[Method], Method]:
    """Make a method of a view an operation of the document; its docstring is the description.

    Args:
        more: as for drf-spectacular's `extend_schema`.
    """
    decorate: Callable[[Method], Method] = extend_schema(
        operation_id=name, summary=summary, tags=[tag], parameters=[*parameters, *ANSWER_HEADERS], auth=SECURITY, **more
    )
    return decorate


def answer(name: str, about: str, *examples: OpenApiExample) -> dict[Any, OpenApiResponse]:
    """A successful answer with a schema of this name."""
    return {(200, "application/json"): OpenApiResponse(ref(name), description=about, examples=[*examples])}


def failures(*statuses: int) -> dict[Any, OpenApiResponse]:
    """The errors that an endpoint may answer with, each with an example."""
    return {
        (status, "application/json"): OpenApiResponse(
            ref(shapes.error_name(kind) if status < 500 else "Error"),
            description=about,
            examples=[
                OpenApiExample(
                    kind,
                    {
                        "type": "error",
                        "error": {"type": kind, "message": EXAMPLES.get(status, about)},
                        "request_id": "req_bf_1",
                    },
                    response_only=True,
                )
            ],
        )
        for status, (kind, about) in ERRORS.items()
        if status in statuses
    }
