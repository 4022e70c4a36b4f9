"""What a conversation is known by, so that all its calls go to the account that has its cached prefix."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from keys.directory import KnownKey
from messages_api.metering import decode
from messages_api.splice import elements_of
from messages_api.upstream import Headers

SESSION = b"x-claude-code-session-id"
# What Claude Code's system prompt begins with: a line about the client itself, which may have another `cch=…` in each
# request (seen in 2.1.x, November 2026).
ATTRIBUTION = "x-anthropic-billing-header"
# Beyond so many bytes, the beginning stands for the whole.
LONG = 1 << 18


class Opening(msgspec.Struct):
    """The members of a request that begin with the same words in each of a conversation's calls."""

    messages: list[msgspec.Raw]
    system: msgspec.Raw = msgspec.Raw(b"null")


class Turn(msgspec.Struct):
    """Whose turn it is."""

    role: str


class Said(msgspec.Struct):
    """A block, as far as it may be text."""

    text: str = ""


_opening = msgspec.json.Decoder(Opening)
_turn = msgspec.json.Decoder(Turn)
_said = msgspec.json.Decoder(Said)


def name(key: KnownKey, headers: Headers, body: bytes) -> str:
    """The conversation that a request belongs to: its client's session, or else how it began.

    Args:
        body: a request that was checked (schema.py).
    """
    for header, value in headers:
        if header == SESSION and value:
            return f"{key.id} session {value.decode('latin-1')}"
    return f"{key.id} opening {opening(body)}"


def opening(body: bytes) -> str:
    """A digest of the system prompt and the first words of the user's. The model is no part of it, for a client may
    change that in the middle; nor are cache markers, which wander from turn to turn, nor what a client says of
    itself."""
    read = _opening.decode(body)
    first = next((turn for turn in read.messages if _turn.decode(turn).role == "user"), read.messages[0])
    digest = blake2b(digest_size=16)
    for part in (unattributed(memoryview(read.system)), memoryview(first)):
        digest.update(plain(bytes(part[: LONG + 1])))
    return digest.hexdigest()


def unattributed(system: memoryview) -> memoryview:
    """A system prompt without what a client says of itself: its first blocks, or the first lines of a text."""
    if bytes(system[:1]) == b"[":
        blocks = elements_of.decode(system)
        first = next((at for at, block in enumerate(blocks) if not is_attribution(block)), len(blocks))
        return memoryview(b"[%b]" % b",".join(blocks[first:])) if first else system
    if bytes(system[:2]).lower() not in (b'"x', b'"\\'):
        return system
    text = msgspec.json.decode(system, type=str)
    if not text.lower().startswith(ATTRIBUTION):
        return system
    while text.lower().startswith(ATTRIBUTION):
        text = text.partition("\n")[2].lstrip("\n")
    return memoryview(msgspec.json.encode(text))


def is_attribution(block: msgspec.Raw) -> bool:
    """Whether a block of a system prompt is what a client says of itself."""
    try:
        return _said.decode(block).text.lower().startswith(ATTRIBUTION)
    except msgspec.ValidationError:
        return False


def plain(part: bytes) -> bytes:
    """A system prompt or a turn in one of the ways to write it."""
    if len(part) > LONG:
        return part
    value = decode(part)
    if isinstance(value, dict):
        value["content"] = unmarked(value.get("content"))
    else:
        value = unmarked(value)
    try:
        return msgspec.json.encode(value, order="sorted")
    except RecursionError:  # legal JSON, but too deep to be written
        return part


def unmarked(content: Any) -> Any:
    """Text and blocks without cache markers; a text is a list of one block, as it becomes when it gets a marker."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            block.pop("cache_control", None)
    return content
