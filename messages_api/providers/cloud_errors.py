"""Clouds' and vendors' errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode
from messages_api.providers import lengths
from messages_api.providers.base import JSON, Outgoing, Whole
from messages_api.server import errors, headers
from messages_api.upstream.client import Answer, UpstreamError, read_all

# The most bytes that are read of an error; real ones are short.
LONGEST = 1 << 20
# Statuses that clients of Anthropic's API don't know. Bedrock's 424 means that the model failed.
STATUSES = {424: 500}

# Bedrock's wording of errors that clients recognise by Anthropic's wording.
UNKNOWN_MODEL = ("model identifier is invalid", "access to the model with the specified model id")
WORDS = ("message", "Message", "msg", "detail")
# Members that only errors have.
CODES = frozenset(("code", "status_code"))
# The status of each of Anthropic's error types.
STATUS_OF = {kind: status for status, kind in errors.KINDS.items()} | {"invalid_request_error": 400}


async def reshape(answer: Answer, call: Outgoing) -> Whole:
    """Read an error, and bring it into Anthropic's shape. One that already has it stays unchanged: clouds pass on the
    errors of Anthropic's own software.

    Raises:
        UpstreamError: the provider disconnected before the end.
    """
    body = await read(answer, call.timeouts.between_bytes)
    kept, request_id = headers.acted_on(answer.headers), headers.value_of(answer.headers, b"request-id")
    if request_id:
        kept.append((b"request-id", request_id.encode("latin-1")))
    if is_in_shape(mapping(decode(body))):
        return Whole(answer.status, [*kept, JSON], body)
    status, message = STATUSES.get(answer.status, answer.status), words(body)
    if status in (400, 403) and any(sign in message.lower() for sign in UNKNOWN_MODEL):
        status, message = 404, f"model: {call.model}"
    elif status == 400:
        message = lengths.reworded(message)
    message = message or without_words(answer.status)
    return Whole(status, [*kept, JSON], in_shape(errors.kind_of(status), message, request_id))


async def read(answer: Answer, between_bytes: float | None) -> bytes:
    """The body of an error, or the beginning of a very long one.

    Raises:
        UpstreamError: the provider disconnected before the end.
    """
    try:
        async with asyncio.timeout(between_bytes):
            return await read_all(answer.read, LONGEST, cut=True)
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None
    finally:
        answer.close()


def masked(body: bytes) -> tuple[int, bytes] | None:
    """The real status and the error of an answer with a success status, in Anthropic's shape; None: it is no error.

    Some vendors that speak Anthropic's API answer errors with a success: an aggregator whose own provider fails
    (`{"error": {"message", "code": 502}}`), z.ai (`{"code": 500, "msg", "success": false}`), MiniMax (`{"base_resp":
    {"status_code", "status_msg"}}`): azrtydxb/Fastllm-proxy#28, xyOz-dev/Saturn#43 (July to September 2026).
    """
    answer = mapping(decode(body))
    about = mapping(answer.get("error")) or mapping(answer.get("base_resp")) or answer
    message = words(body)
    if not (answer.get("error") or (message and (about.keys() & CODES or answer.get("success") is False))):
        return None
    if isinstance(answer.get("content"), list) or "input_tokens" in answer:
        return None
    status = meant(about)
    if is_in_shape(answer):
        return status, body
    message = message or "The provider answered with an error without a message."
    return status, in_shape(errors.kind_of(status), message)


def is_in_shape(error: dict[str, Any]) -> bool:
    """Whether an error has Anthropic's shape."""
    return error.get("type") == "error" and bool(mapping(error.get("error")).get("type"))


def event(body: bytes) -> bytes:
    """An error as the last event of a stream."""
    return b"event: error\ndata: " + b" ".join(body.splitlines()) + b"\n\n"


def meant(error: dict[str, Any]) -> int:
    """The status that an error stands for: that of its code or its type, or 500."""
    for code in (error.get("code"), error.get("status_code"), error.get("status"), error.get("type")):
        status = STATUS_OF.get(code, 0) if isinstance(code, str) else code
        if isinstance(code, str) and code.isdecimal() and len(code) == 3:
            status = int(code)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return 500


def no_token() -> Whole:
    """The answer to a call that isn't made, because the cloud gives no token for the provider key's secret."""
    return Whole(401, [JSON], in_shape("authentication_error", "The credentials were refused."))


def words(body: bytes) -> str:
    """The message of an error; empty: it has none. AWS has it in `message`, Google and Azure in `error`, Google
    sometimes in a list, z.ai in `msg`, MiniMax in `base_resp`, FastAPI in `detail`."""
    answer = decode(body)
    about = mapping(answer[0] if isinstance(answer, list) and answer else answer)
    error = about.get("error")
    base = mapping(about.get("base_resp")).get("status_msg")
    for message in (mapping(error).get("message"), error, *(about.get(name) for name in WORDS), base):
        if isinstance(message, str) and message:
            return message
    return ""


def without_words(status: int) -> str:
    """The message for an error that has none."""
    return f"The provider answered with HTTP {status}."


def in_shape(kind: str, message: str, request_id: str = "") -> bytes:
    """The JSON of an error."""
    error: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        error["request_id"] = request_id
    return json.dumps(error, ensure_ascii=False).encode("utf-8", "replace")
