"""What a conversation is known by, so that all its calls go to the account that has its cached prefix."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from messages_api.errors import Headers
from messages_api.outline import decode_all
from messages_api.plain import Plain
from messages_api.splice import elements_of

SESSION = b"x-claude-code-session-id"
# What Claude Code's system prompt begins with: a line about the client itself, which may have another `cch=…` in each
# request (seen in 2.1.x, November 2026).
ATTRIBUTION = "x-anthropic-billing-header"
# Beyond so many bytes, the beginning stands for the whole.
LONG = 1 << 18


class Turn(msgspec.Struct):
    """Whose turn it is."""

    role: str


class Said(msgspec.Struct):
    """A block, as far as it may be text."""

    text: str = ""


_turn = msgspec.json.Decoder(Turn)
_said = msgspec.json.Decoder(Said)


def name(virtual_key: int, headers: Headers, opening: str) -> str:
    """The conversation that a request belongs to: its client's session, or else how it began."""
    session = session_of(headers)
    return f"{virtual_key} session {session}" if session else f"{virtual_key} opening {opening}"


def session_of(headers: Headers) -> str:
    """The session that a client says its request belongs to; empty where it says none."""
    return next((value.decode("latin-1") for header, value in headers if header == SESSION and value), "")


def opening(said: Plain) -> str:
    """A digest of the system prompt and the first words of the user's. The model is no part of it, for a client may
    change that in the middle; nor are cache markers, which wander from turn to turn, nor what a client says of
    itself."""
    messages = elements_of.decode(said.members["messages"])
    first = next((turn for turn in messages if _turn.decode(turn).role == "user"), messages[0])
    digest = blake2b(digest_size=16)
    for part in (unattributed(memoryview(said.members.get("system", b"null"))), memoryview(first)):
        digest.update(sorted_out(bytes(part))[: LONG + 1])
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


def sorted_out(part: bytes) -> bytes:
    """A system prompt or a turn with its members in one order."""
    value = decode_all(part)
    if isinstance(value, dict):
        value["content"] = unmarked(value.get("content"))
    else:
        value = unmarked(value)
    try:
        return msgspec.json.encode(ordered(value))
    except RecursionError:  # legal JSON, but too deep to be written
        return b"deep"


def ordered(value: Any) -> Any:
    """The same with the members of objects by their names. (msgspec's own order takes quadratic time.)"""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    return [ordered(one) for one in value] if isinstance(value, list) else value


def unmarked(content: Any) -> Any:
    """Text and blocks without cache markers; a text is a list of one block, as it becomes when it gets a marker."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            block.pop("cache_control", None)
    return content
