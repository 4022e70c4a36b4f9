"""A cloud's errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from messages_api import errors, headers
from messages_api.lenient import mapping
from messages_api.outline import decode
from messages_api.providers.base import JSON, Outgoing, Whole
from messages_api.upstream import Answer, UpstreamError, gathered

# An error is read to this length; those of clouds are short.
LONGEST = 1 << 20
# What means nothing to Anthropic's clients: at Bedrock, the model failed.
STATUSES = {424: 500}

# Bedrock's words for what clients know by Anthropic's.
UNKNOWN_MODEL = ("model identifier is invalid", "access to the model with the specified model id")
TOO_LONG = "input is too long"
WORDS = ("message", "Message", "msg")
# Members of an error that no answer has.
CODES = frozenset(("code", "status_code"))
# Anthropic's types, by the status that goes with each.
STATUS_OF = {kind: status for status, kind in errors.KINDS.items()} | {"invalid_request_error": 400}


async def reshaped(answer: Answer, call: Outgoing) -> Whole:
    """An error that was read. It is as it came where it has Anthropic's shape, for clouds pass on what Anthropic's own
    software says.

    Raises:
        UpstreamError: it broke off.
    """
    body = await read(answer, call.timeouts.between_bytes)
    kept, request_id = headers.acted_on(answer.headers), headers.value_of(answer.headers, b"request-id")
    if request_id:
        kept.append((b"request-id", request_id.encode("latin-1")))
    told = mapping(decode(body))
    if told.get("type") == "error" and mapping(told.get("error")).get("type"):
        return Whole(answer.status, [*kept, JSON], body)
    status, message = STATUSES.get(answer.status, answer.status), words(body)
    if status in (400, 403) and any(sign in message.lower() for sign in UNKNOWN_MODEL):
        status, message = 404, f"model: {call.model}"
    elif status == 400 and TOO_LONG in message.lower():
        message = f"prompt is too long: {message}"
    message = message or f"The provider answered with HTTP {answer.status}."
    return Whole(status, [*kept, JSON], in_shape(errors.kind_of(status), message, request_id))


async def read(answer: Answer, between_bytes: float | None) -> bytes:
    """The body of an error, or the beginning of a very long one.

    Raises:
        UpstreamError: it broke off.
    """
    try:
        async with asyncio.timeout(between_bytes):
            return await gathered(answer.read, LONGEST, cut=True)
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None
    finally:
        answer.close()


def masked(body: bytes) -> tuple[int, bytes] | None:
    """The status that an answer means which came as a success and is an error, and that error in Anthropic's shape;
    None for an answer. Vendors who speak Anthropic's API send such: an aggregator whose own provider fails
    (`{"error": {"message", "code": 502}}`), z.ai (`{"code": 500, "msg", "success": false}`), MiniMax (`{"base_resp":
    {"status_code", "status_msg"}}`): azrtydxb/Fastllm-proxy#28, xyOz-dev/Saturn#43 (July to September 2026)."""
    told = mapping(decode(body))
    about = mapping(told.get("error")) or mapping(told.get("base_resp")) or told
    message = words(body)
    if not (told.get("error") or (message and (about.keys() & CODES or told.get("success") is False))):
        return None
    if isinstance(told.get("content"), list) or "input_tokens" in told:
        return None
    status = meant(about)
    if told.get("type") == "error" and mapping(told.get("error")).get("type"):
        return status, body
    message = message or "The provider answered with an error and no words."
    return status, in_shape(errors.kind_of(status), message)


def event(body: bytes) -> bytes:
    """An error as the last event of a stream."""
    return b"event: error\ndata: " + b" ".join(body.splitlines()) + b"\n\n"


def meant(error: dict[str, Any]) -> int:
    """The status that an error stands for: its own code's, its type's, or 500."""
    for said in (error.get("code"), error.get("status_code"), error.get("status"), error.get("type")):
        status = STATUS_OF.get(said, 0) if isinstance(said, str) else said
        if isinstance(said, str) and said.isdecimal() and len(said) == 3:
            status = int(said)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return 500


def no_token() -> Whole:
    """The answer to a call that can't be made, for its provider key's credentials aren't taken."""
    return Whole(401, [JSON], in_shape("authentication_error", "The credentials were refused."))


def words(body: bytes) -> str:
    """What a cloud says, wherever it says it: AWS in `message`, Google and Azure in `error`, Google at times in a list,
    z.ai in `msg`, MiniMax in `base_resp`; empty where that is nothing."""
    told = decode(body)
    about = mapping(told[0] if isinstance(told, list) and told else told)
    error = about.get("error")
    base = mapping(about.get("base_resp")).get("status_msg")
    for said in (mapping(error).get("message"), error, *(about.get(name) for name in WORDS), base):
        if isinstance(said, str) and said:
            return said
    return ""


def in_shape(kind: str, message: str, request_id: str = "") -> bytes:
    """The JSON of an error."""
    error: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        error["request_id"] = request_id
    return json.dumps(error, ensure_ascii=False).encode("utf-8", "replace")
