"""The built-in provider: real answers of the Messages API without a network, for the quick start, demos and laptops.

It repeats the last user message. Magic words in that text change how it behaves:

    [echo delay=1.5]     waits 1.5 seconds before it answers
    [echo pause=0.2]     waits 0.2 seconds between the events of a stream
    [echo error=529]     answers with that error
    [echo words=500]     repeats the text up to 500 words
    [echo break]         ends a stream after the first piece, as a provider that disconnects
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

from messages_api.providers.base import Outgoing, Provider, speaks
from messages_api.upstream.client import Answer, Headers, UpstreamError

MAGIC = re.compile(r"\[echo ([a-z]+)(?:=([0-9.]{1,8}))?\]")
MAX_DELAY = 600.0
MAX_WORDS = 100_000
# Bounds on the made-up input of a forced tool.
MAX_VALUES = 1000
MAX_ITEMS = 20

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@speaks
class Echo(Provider):
    name = "echo"
    label = "Echo (built in, no network)"
    takes_secret = False
    takes_base_url = False
    sells = ("echo-1",)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        """Accept any secret: it isn't used."""

    async def send(self, call: Outgoing) -> Answer:
        call.on_write()
        request = json.loads(call.body if isinstance(call.body, bytes) else await call.body.read())
        words = last_words(request)
        magic = dict(MAGIC.findall(words))
        await asyncio.sleep(min(number(magic, "delay"), MAX_DELAY))
        identity = (b"request-id", b"req_echo_" + secrets.token_hex(12).encode())
        if (status := int(number(magic, "error"))) in ERRORS:
            return EchoAnswer(status, [identity, JSON], once(error(status)))
        if call.path.endswith("/count_tokens"):
            return EchoAnswer(
                200, [identity, JSON], once(json.dumps({"input_tokens": prompt_tokens(request)}).encode())
            )
        message = compose(request, words, magic)
        if not request.get("stream"):
            return EchoAnswer(200, [identity, JSON], once(json.dumps(message, ensure_ascii=False).encode()))
        pause = min(number(magic, "pause"), MAX_DELAY)
        return EchoAnswer(200, [identity, EVENTS], stream(message, pause, "break" in magic))


JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class EchoAnswer:
    def __init__(self, status: int, headers: Headers, parts: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.parts = parts

    async def read(self) -> bytes:
        return await anext(self.parts, b"")

    def close(self) -> None:
        """There is no connection to close."""


async def once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def error(status: int) -> bytes:
    fault = {"type": ERRORS[status], "message": f"The request asked the echo provider for an error {status}."}
    return json.dumps({"type": "error", "error": fault}).encode()


def last_words(request: dict[str, Any]) -> str:
    """The text of the last user message."""
    for message in reversed(request.get("messages") or []):
        if isinstance(message, dict) and message.get("role") == "user":
            return " ".join(texts(message.get("content")))
    return ""


def texts(content: Any) -> list[str]:
    """Every text in a message's content."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    found = []
    for block in content:
        if isinstance(block, dict) and block.get("type") == "text":
            found.append(str(block.get("text", "")))
        elif isinstance(block, dict) and block.get("type") == "tool_result":
            found.extend(texts(block.get("content")))
    return found


def number(magic: dict[str, str], name: str) -> float:
    try:
        return float(magic.get(name) or 0)
    except ValueError:
        return 0.0


def compose(request: dict[str, Any], words: str, magic: dict[str, str]) -> dict[str, Any]:
    """The message that answers a request: the use of a forced tool, else an echo of up to `max_tokens`."""
    limit = int(request["max_tokens"])
    tool = forced_tool(request)
    reason, content = "end_turn", []
    if tool is not None:
        made = example(tool.get("input_schema") or {})
        block = {
            "type": "tool_use",
            "id": "toolu_echo" + secrets.token_hex(10),
            "name": tool.get("name"),
            "input": made if isinstance(made, dict) else {},
        }
        content, reason, output = [block], "tool_use", count(json.dumps(block["input"])) + 8
    else:
        text = MAGIC.sub("", words).strip() or "(nothing)"
        if wanted := min(int(number(magic, "words")), MAX_WORDS):
            text = " ".join((text.split() * (wanted // len(text.split()) + 1))[:wanted])
        pieces = text.split(" ")
        output = sum(count(piece) for piece in pieces)
        while pieces and output > limit:
            reason = "max_tokens"
            output -= count(pieces.pop())
        if pieces:
            content = [{"type": "text", "text": " ".join(pieces)}]
    return {
        "id": "msg_echo" + secrets.token_hex(12),
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": prompt_tokens(request),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output,
            "service_tier": "standard",
        },
    }


def prompt_tokens(request: dict[str, Any]) -> int:
    return count(json.dumps([request.get("system"), request.get("messages"), request.get("tools")]))


def count(text: str) -> int:
    """Tokens of a text: echo counts one for every four characters."""
    return -(-len(text) // 4)


def forced_tool(request: dict[str, Any]) -> dict[str, Any] | None:
    """The tool that `tool_choice` forces, if any."""
    choice, tools = request.get("tool_choice") or {}, request.get("tools") or []
    tools = [tool for tool in tools if isinstance(tool, dict)]
    if not isinstance(choice, dict) or choice.get("type") not in ("any", "tool"):
        return None
    wanted = [tool for tool in tools if choice["type"] == "any" or tool.get("name") == choice.get("name")]
    return wanted[0] if wanted else None


def example(schema: Any) -> Any:
    """A small value that fits a simple JSON schema."""
    return _example(schema, iter(range(MAX_VALUES)))


def _example(schema: Any, left: Iterator[int]) -> Any:
    if not isinstance(schema, dict) or next(left, None) is None:
        return {}
    if "const" in schema:
        return schema["const"]
    for choice in ("enum", "anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(choice), list) and options:
            return options[0] if choice == "enum" else _example(options[0], left)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else properties
        return {name: _example(properties.get(name), left) for name in names}
    if kind == "array":
        items = schema.get("minItems")
        items = min(items, MAX_ITEMS) if isinstance(items, int) else 0
        return [_example(schema.get("items"), left) for _ in range(items)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(str(kind), "echo")


async def stream(message: dict[str, Any], pause: float, breaks: bool) -> AsyncIterator[bytes]:
    """The events of a message, in Anthropic's order."""
    usage = message["usage"]
    start = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield event("message_start", message=start)
    for index, block in enumerate(message["content"]):
        empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
        first = block | empty
        yield event("content_block_start", index=index, content_block=first)
        if index == 0:
            yield event("ping")
        for part in deltas(block):
            if pause:
                await asyncio.sleep(pause)
            yield event("content_block_delta", index=index, delta=part)
            if breaks:
                raise UpstreamError("broken_off", sent=True)
        yield event("content_block_stop", index=index)
    yield event(
        "message_delta",
        delta={"stop_reason": message["stop_reason"], "stop_sequence": None},
        usage={name: usage[name] for name in usage if name.endswith("_tokens")},
    )
    yield event("message_stop")


def deltas(block: dict[str, Any]) -> list[dict[str, str]]:
    """A block's content, word by word, or a tool's input in pieces."""
    if block["type"] == "text":
        words = block["text"].split(" ")
        return [
            {"type": "text_delta", "text": word + (" " if more else "")}
            for word, more in zip(words, [*[True] * (len(words) - 1), False], strict=True)
        ]
    text = json.dumps(block["input"])
    return [{"type": "input_json_delta", "partial_json": text[at : at + 12]} for at in range(0, len(text), 12)]


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
