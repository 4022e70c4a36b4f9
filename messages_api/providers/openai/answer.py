"""A whole chat completion as a Messages answer. Pure."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from messages_api import minted
from messages_api.providers.openai import completion
from messages_api.providers.openai.completion import Choice, Completion
from messages_api.providers.openai.expected import Expected


def message(read: Completion, expected: Expected) -> bytes:
    """The Messages answer.

    Raises:
        ValueError: there is no answer in the completion, or none that came to its end.
    """
    choice = read.choices[0] if read.choices else None
    if choice is None or choice.message is None or completion.broke(choice):
        raise ValueError("no answer")
    content, delivered = blocks(choice, expected)
    called = any(block["type"] == "tool_use" for block in content)
    reason, sequence = completion.stop(choice, expected.stops, called=called, refused=bool(choice.message.refusal))
    used = completion.usage(read) or completion.guessed(delivered)
    return msgspec.json.encode(
        {
            "id": name(read),
            "type": "message",
            "role": "assistant",
            "model": read.model if isinstance(read.model, str) and read.model else expected.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "stop_details": completion.stop_details(reason),
            "usage": used | {"service_tier": completion.tier(read)},
        }
    )


def name(read: Completion) -> str:
    """The answer's id: the provider's, if it has one."""
    return read.id if isinstance(read.id, str) and read.id else "msg_" + secrets.token_hex(12)


def tool_id(given: Any, taken: set[str]) -> str:
    """A tool call's id, for not every provider gives one, and some give the same one to several calls.

    Args:
        taken: the ids of the answer's other calls, to which this one is added.
    """
    unique = given if isinstance(given, str) and given and given not in taken else "toolu_" + secrets.token_hex(12)
    taken.add(unique)
    return unique


def blocks(choice: Choice, expected: Expected) -> tuple[list[dict[str, Any]], int]:
    """The content's blocks, and how many bytes the model wrote."""
    assert choice.message is not None
    content: list[dict[str, Any]] = []
    delivered = 0
    ids = set[str]()
    for kind, text in completion.said(choice.message):
        delivered += len(text.encode())
        if kind == "thinking" and not expected.shows_thinking:
            continue
        if content and content[-1]["type"] == kind:
            content[-1][kind] += text
        else:
            signed = {"signature": minted.signature()} if kind == "thinking" else {}
            content.append({"type": kind, kind: text, **signed})
    for call in completion.calls(choice.message):
        written = completion.arguments(call.function)
        delivered += len(written.encode())
        called = call.function.name if call.function is not None else None
        if not isinstance(called, str) or not called:
            raise ValueError("a tool call without a name")
        content.append(
            {"type": "tool_use", "id": tool_id(call.id, ids), "name": called, "input": completion.tool_input(written)}
        )
    return content, delivered
