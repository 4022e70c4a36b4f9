"""A turn that calls tools, and the turn with their results."""

from __future__ import annotations

from typing import Any

CALLS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "I need both.", "signature": "s"},
    {"type": "redacted_thinking", "data": "sealed"},
    {"type": "text", "text": "Let me "},
    {"type": "text", "text": "look."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
    {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
]
RESULTS: list[dict[str, Any]] = [
    {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    },
    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": True},
    {"type": "text", "text": "Go on."},
]
