"""An OpenAI-compatible provider that refuses what such providers are known to refuse, in their words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tests.support.fake_provider import pieces, whole
from tests.support.openai_provider import chunk, chunks, completion, tool_call

MEMBERS = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "stream"),
    *("stream_options", "user", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Fussy:
    """Answers with a text, or by a call of each tool that it is offered, where nothing is to be refused.

    Attributes:
        asked: the bodies that it took.
        blind: whether images are refused.
    """

    def __init__(self, *, calls: bool = False, blind: bool = False) -> None:
        self.calls = calls
        self.blind = blind
        self.asked: list[dict[str, Any]] = []

    def __call__(self, seen: Any) -> Any:
        body = json.loads(seen.body)
        if complaint := next(self.complaints(body), ""):
            return whole(400, json.dumps({"error": {"message": complaint, "type": "invalid_request_error"}}).encode())
        self.asked.append(body)
        names = [tool["function"]["name"] for tool in body.get("tools") or () if self.calls]
        if body.get("stream"):
            parts = [chunk(tool_call(number, "{}", name, f"call_{number}")) for number, name in enumerate(names)]
            return pieces(200, [*parts, chunk({}, "tool_calls"), *chunks()[-2:]] if names else chunks("Hi"))
        calls = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
            for number, name in enumerate(names)
        ]
        return whole(200, completion(None, "tool_calls", tool_calls=calls) if calls else completion("Hi"))

    def complaints(self, body: dict[str, Any]) -> Iterator[str]:
        yield from (f"Unknown parameter: '{name}'." for name in body if name not in MEMBERS)
        for tool in body.get("tools") or ():
            function = tool["function"]
            if not NAME.fullmatch(function["name"]):
                yield f"Invalid 'tools.function.name': {function['name']}"
            if function["parameters"].get("type") != "object":
                yield "schema must be a JSON Schema of 'type: \"object\"'"
            yield from schema_complaints(function["parameters"])
        yield from turn_complaints(body["messages"])
        if self.blind and "image_url" in json.dumps(body["messages"]):
            yield "unknown variant `image_url`, expected `text`"


def schema_complaints(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "object" in kinds and not isinstance(schema.get("properties"), dict):
            yield "object schema missing properties"
        if "array" in kinds and "items" not in schema:
            yield "array schema missing items"
        for name, inner in schema.items():
            # A property may have any name.
            within = inner.values() if name in ("properties", "$defs") else [inner]
            if name not in ("enum", "const", "default", "examples", "required"):
                for each in within:
                    yield from schema_complaints(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from schema_complaints(each)


def turn_complaints(turns: list[dict[str, Any]]) -> Iterator[str]:
    roles = [turn["role"] for turn in turns]
    if "system" in roles[1:]:
        yield "System message must be at the beginning."
    if "user" not in roles:
        yield "No user query found in messages."
    if ("user", "user") in pairwise(roles):
        yield "Conversation roles must alternate user/assistant/user/assistant/..."
    waiting: set[str] = set()
    for turn in turns:
        if turn["role"] == "tool":
            if turn["tool_call_id"] not in waiting:
                yield f"{turn['tool_call_id']} answers nothing"
            waiting.discard(turn["tool_call_id"])
        elif waiting:
            yield f"{waiting} are not answered"
        waiting |= {call["id"] for call in turn.get("tool_calls") or ()}
        yield from (
            f"Invalid name {call['function']['name']}" for call in turn.get("tool_calls") or () if misnamed(call)
        )
        content = turn["content"]
        kinds = {part["type"] for part in content} if isinstance(content, list) else set()
        if kinds - {"text", "image_url"}:
            yield f"Invalid content type {kinds}"
        if turn["role"] == "user" and not content:
            yield "message content must not be empty"


def misnamed(call: dict[str, Any]) -> bool:
    return not NAME.fullmatch(call["function"]["name"])
