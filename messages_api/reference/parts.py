"""What several endpoints of the OpenAPI document have in common: credentials, headers, errors."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from messages_api.reference import shapes
from messages_api.reference.shapes import ERRORS, ref

SECURITY: list[Any] = [{"bearer": []}, {"apiKey": []}, {"virtualKey": []}]
QUESTION = {"role": "user", "content": "Hello, Claude"}


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
ROUTED_HEADERS = [
    header("x-bf-provider", "Whose protocol the model that answered is called by.", "anthropic", answers=[200]),
    header("x-bf-model", "The model that answered, by its provider's name.", "claude-haiku-4-5", answers=[200]),
    header("x-bf-attempts", "How often the call was tried: elsewhere, again, at fallbacks.", answers=[200]),
    header("x-stainless-retry-count", "Above 0, the client tries again by itself: the call is tried once."),
    header("x-stainless-timeout", "The client's patience in seconds: half of it may go by between attempts."),
]
SAID = {
    401: "No credential was sent. Send a virtual key (sk-bf-…) as x-api-key, as Authorization: Bearer, or as x-bf-vk.",
    404: "model: claude-nothing-1",
}


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
