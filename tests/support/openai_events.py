"""Anthropic's events that a streamed chat completion becomes, and the content that they make."""

from __future__ import annotations

import json
from typing import Any

from anthropic._streaming import SSEDecoder

from messages_api.providers.openai import answer, completion
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from tests.support.openai_provider import DONE, USAGE, chunk

PLAIN = Expected("asked-for", stream=True)
Event = tuple[str, dict[str, Any]]


def translated(parts: list[bytes], expected: Expected = PLAIN) -> list[Event]:
    """The events that come of a stream, as Anthropic's SDK reads them."""
    events = EventTranslation(expected)
    out = [events.feed(part) for part in parts]
    return decode(b"".join([*out, events.finish()]))


def decode(body: bytes) -> list[Event]:
    return [(one.event or "", json.loads(one.data)) for one in SSEDecoder().iter_bytes(iter([body]))]


def blocks(events: list[Event]) -> list[dict[str, Any]]:
    """The content that the events make, checked to be in Anthropic's order."""
    kinds = [kind for kind, _ in events if kind != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert not {"message_start", "message_delta", "message_stop"} & set(kinds[1:-2])
    assert [kind for kind, _ in events].count("ping") == ("content_block_start" in kinds)
    content: list[dict[str, Any]] = []
    written = ""
    is_open = False
    for kind, data in events:
        if kind == "content_block_start":
            assert not is_open
            assert data["index"] == len(content)
            content.append(dict(data["content_block"]))
            is_open, written = True, ""
        elif kind in ("content_block_delta", "content_block_stop"):
            assert is_open
            assert data["index"] == len(content) - 1
            if kind == "content_block_stop":
                is_open = False
                if content[-1]["type"] == "tool_use":
                    content[-1]["input"] = json.loads(written or "{}")
                continue
            delta = data["delta"]
            if delta["type"] == "signature_delta":
                assert delta["signature"]
                continue
            name = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[
                delta["type"]
            ]
            if name == "partial_json":
                written += delta[name]
            else:
                content[-1][name] += delta[name]
    assert not is_open
    return content


def last(events: list[Event]) -> dict[str, Any]:
    """The message_delta."""
    return events[-2][1]


def whole_blocks(*tool_calls: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of an answer that isn't streamed."""
    said = {
        "choices": [{"message": {"role": "assistant", "tool_calls": tool_calls}, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    content: list[dict[str, Any]] = json.loads(answer.message(completion.read(json.dumps(said).encode()), PLAIN))[
        "content"
    ]
    return content


def tools(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[dict[str, Any]]:
    """The blocks that these deltas make."""
    events = translated([*(chunk(delta) for delta in deltas), chunk({}, finish), DONE])
    assert last(events)["delta"]["stop_reason"] == "tool_use"
    return blocks(events)
