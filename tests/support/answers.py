"""Answers of a provider that speaks Anthropic's API, each as JSON and as the same in events."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fake_provider import Step, pieces, whole
from tests.support.gateway import MODEL, event, message

# USD per million tokens of the model that answers: read, written to caches for five minutes and an hour, written.
INPUT, CACHE_READ, WRITE_5M, WRITE_1H, OUTPUT = 4, "0.2", 5, 8, 20


def refusal(category: str | None = "cyber", content: Any = (), model: str = MODEL, **usage: Any) -> dict[str, Any]:
    """What a model answers that declines."""
    answer: dict[str, Any] = json.loads(message(model=model))
    return answer | {
        "content": list(content),
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": category, "explanation": None},
        "usage": {"input_tokens": 40_000, "output_tokens": 0} | usage,
    }


def fallback(category: str | None) -> dict[str, Any]:
    """The block between two models."""
    models = {"from": {"model": "claude-fable-5"}, "to": {"model": MODEL}}
    return {"type": "fallback", **models, "trigger": {"type": "refusal", "category": category}}


def in_events(answer: dict[str, Any]) -> list[bytes]:
    """The answer as events, each block in two deltas."""
    usage = answer["usage"]
    first = {name: value for name, value in usage.items() if name != "iterations"} | {"output_tokens": 1}
    start = answer | {"content": [], "stop_reason": None, "stop_details": None, "usage": first}
    end = {name: answer.get(name) for name in ("stop_reason", "stop_details")}
    blocks = [part for index, block in enumerate(answer["content"]) for part in block_events(index, block)]
    delta = event("message_delta", delta=end, usage=usage)
    return [event("message_start", message=start), *blocks, delta, event("message_stop")]


def block_events(index: int, block: dict[str, Any]) -> list[bytes]:
    """A block that begins empty, and comes in deltas if it is of text."""
    deltas: list[dict[str, Any]] = []
    for name in ("text", "thinking"):
        if block.get("type") == name:
            words, block = block[name], block | {name: ""}
            half = len(words) // 2
            deltas = [{"type": f"{name}_delta", name: part} for part in (words[:half], words[half:])]
    return [
        event("content_block_start", index=index, content_block=block),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def steps(answer: dict[str, Any], *, stream: bool) -> list[Step]:
    """What the provider sends."""
    return pieces(200, in_events(answer)) if stream else list(whole(200, json.dumps(answer).encode()))
