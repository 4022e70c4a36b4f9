"""A provider's errors in Anthropic's shape and types. Pure.

https://docs.claude.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from messages_api.errors import kind_of
from messages_api.metering import decode, mapping

# Codes and types that say more than a status, or stand in the place of one.
STATUSES = {
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "model_not_found": 404,
    "insufficient_quota": 402,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout": 504,
    "insufficient_system_resource": 529,
    "overloaded_error": 529,
    "server_overloaded": 529,
}
SPENT = "insufficient_quota"
UNKNOWN_MODEL = frozenset(("model_not_found", "DeploymentNotFound"))
TOO_LONG = "context_length_exceeded"
# Those who have no code for it say it so: DeepSeek, OpenRouter, vLLM and Mistral; xAI; Google.
TOO_LONG_WORDS = re.compile(r"maximum (context|prompt) length|input token count .* exceeds", re.IGNORECASE)
# What concerns our own key is not for the caller.
OURS = frozenset((401, 402, 403))
OUR_TROUBLE = "The provider refuses the gateway's own key or account; its administrators have to see to it."
# Of what an aggregator was told by a provider of its own.
RAW_LENGTH = 500


def of_answer(status: int, body: bytes, model: str, request_id: str) -> tuple[int, bytes]:
    """An answer that is an error: its status and its body. A spent account is a 402, whatever the provider says.

    Args:
        status: the provider's; 0: the body tells.
        model: as the caller named it.
    """
    told = first(decode(body))
    error = mapping(told.get("error")) or told
    if not status:
        status = status_of(error) or 500
    elif status == 429 and SPENT in (error.get("code"), error.get("type")):
        status = 402
    message = message_of(told) or f"The provider answered with HTTP {status}."
    return status, _body(kind_of(status), reworded(error.get("code"), message, model), request_id)


def of_stream(error: Any, model: str) -> bytes:
    """An error in the middle of a stream, as its last event."""
    about = mapping(error)
    status = status_of(about) or 500
    message = OUR_TROUBLE if status in OURS else message_of({"error": error}) or "The provider broke off."
    kind = "api_error" if status in OURS else kind_of(status)
    return b"event: error\ndata: " + _body(kind, reworded(about.get("code"), message, model)) + b"\n\n"


def _body(kind: str, message: str, request_id: str = "") -> bytes:
    shown: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    return msgspec.json.encode(shown | ({"request_id": request_id} if request_id else {}))


def status_of(error: dict[str, Any]) -> int:
    """The status that an error stands for, 0 where it doesn't say."""
    for told in (error.get("code"), error.get("status"), error.get("status_code"), error.get("type")):
        if isinstance(told, str):
            told = STATUSES.get(told) or (int(told) if told.isdecimal() and len(told) == 3 else 0)
        if isinstance(told, int) and 400 <= told < 600:
            return told
    return 0


def first(told: object) -> dict[str, Any]:
    """The error's object; Google puts it in a list."""
    return mapping(told[0] if isinstance(told, list) and told else told)


def message_of(told: dict[str, Any]) -> str:
    """What a provider says, wherever it says it."""
    error = told.get("error")
    if isinstance(error, str):
        return clean(error)
    about = mapping(error) or told
    message = about.get("message") or told.get("message") or told.get("detail")
    text = message if isinstance(message, str) else json.dumps(message) if message else ""
    raw = mapping(about.get("metadata")).get("raw")
    return clean(f"{text}: {raw[:RAW_LENGTH]}" if isinstance(raw, str) and raw else text)


def clean(text: str) -> str:
    """Without halves of characters, which can't be sent."""
    return text.encode("utf-8", "replace").decode()


def reworded(code: Any, message: str, model: str) -> str:
    """Anthropic's wording, where clients act on it: an unknown model, a prompt that is too long."""
    if isinstance(code, str) and code in UNKNOWN_MODEL:
        return f"model: {model}"
    if code == TOO_LONG or TOO_LONG_WORDS.search(message):
        return f"prompt is too long: {message}"
    return message
