"""The translation of a complete chat completion to a Messages answer. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from messages_api.providers.openai import call_ids, completion
from messages_api.providers.openai.arguments import as_object, is_cut
from messages_api.providers.openai.completion import Choice, Completion
from messages_api.providers.openai.expected import Expected
from messages_api.providers.openai.halves import whole
from messages_api.providers.openai.names import own
from messages_api.providers.openai.stops import Cut
from messages_api.providers.openai.thoughts import Piece, Thoughts
from messages_api.request import minted


def message(read: Completion, expected: Expected) -> bytes:
    """The Messages answer.

    Raises:
        Nothing: the answer ended before it began.
        ValueError: the completion has no answer, or an incomplete one.
    """
    choice = read.choices[0] if read.choices else None
    if choice is None or choice.message is None or completion.broke(choice):
        raise ValueError("no answer")
    ends = Cut(expected.cuts)
    content, delivered = blocks(choice, expected, ends)
    called = any(block["type"] == "tool_use" for block in content)
    cut = any(is_cut(completion.arguments(call.function)) for call in completion.calls(choice.message))
    refused = bool(choice.message.refusal)
    reason, sequence = completion.stop(choice, expected.stops, called=called, refused=refused, cut=cut)
    if ends.found is not None:
        reason, sequence = "stop_sequence", ends.found
    used = completion.usage(read)
    if not delivered and not called:
        completion.check_empty(reason, used)
    used = (used or completion.guessed(delivered)) | completion.doubtful(read)
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
            "usage": used | completion.tier(completion.served(read)),
        }
    )


def name(read: Completion) -> str:
    """The answer's id: the provider's, or a new one if it has none."""
    return read.id if isinstance(read.id, str) and read.id else "msg_" + secrets.token_hex(12)


def blocks(choice: Choice, expected: Expected, ends: Cut) -> tuple[list[dict[str, Any]], int]:
    """The blocks of the content, and the number of bytes that the model wrote.

    Args:
        ends: where the content ends.
    """
    assert choice.message is not None
    content: list[dict[str, Any]] = []
    delivered = 0
    calls = completion.calls(choice.message)
    for kind, text in pieces(choice, expected, ends, called=bool(calls)):
        delivered += len(text.encode())
        if kind == "thinking" and not expected.shows_thinking:
            continue
        if content and content[-1]["type"] == kind:
            content[-1][kind] += text
        else:
            signed = {"signature": minted.signature()} if kind == "thinking" else {}
            content.append({"type": kind, kind: text, **signed})
    ids = set[str]()
    for call in calls if ends.found is None else ():
        written = whole(completion.arguments(call.function))
        delivered += len(written.encode())
        called = call.function.name if call.function is not None else None
        if not isinstance(called, str) or not called:
            raise ValueError("a tool call without a name")
        clients = own(called, expected.own_names)
        unique = call_ids.for_client(call.id, ids)
        content.append({"type": "tool_use", "id": unique, "name": clients, "input": as_object(written)})
    return content, delivered


def pieces(choice: Choice, expected: Expected, ends: Cut, *, called: bool) -> Iterator[Piece]:
    """The thinking and the text of an answer up to a stop sequence, in order."""
    for kind, text in all_pieces(choice, expected, called=called):
        yield from ends.take((kind, whole(text)))
    yield from ends.rest()


def all_pieces(choice: Choice, expected: Expected, *, called: bool) -> Iterator[Piece]:
    assert choice.message is not None
    thoughts, spoke = Thoughts(expected.tags), False
    for kind, text in completion.said(choice.message):
        for one in thoughts.take(kind, text):
            spoke = spoke or one[0] == "text"
            yield one
    if called:
        yield from thoughts.tool()
    yield from thoughts.finish(
        cut=completion.is_cut(choice), alone=not (spoke or called), shown=expected.shows_thinking
    )
