"""The identity of a conversation: all its calls go to the provider's account that has its prefix in the cache."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from messages_api.json_text.byte_edits import elements_of
from messages_api.json_text.outline import decode_all
from messages_api.request.plain import Plain
from messages_api.server.errors import Headers

SESSION = b"x-claude-code-session-id"
# Claude Code's system prompt begins with a line about the client itself, in which `cch=…` may change with each request
# (seen in 2.1.x, November 2026).
ATTRIBUTION = "x-anthropic-billing-header"
# A longer part is identified by its first bytes only.
LONG = 1 << 18


class Turn(msgspec.Struct):
    role: str


class Said(msgspec.Struct):
    """A block, of which only the text is read."""

    text: str = ""


_turn = msgspec.json.Decoder(Turn)
_said = msgspec.json.Decoder(Said)


def name(virtual_key: int, headers: Headers, opening: str) -> str:
    """The name of the conversation that a request belongs to: the client's session, or else a digest of its opening."""
    session = session_of(headers)
    return f"{virtual_key} session {session}" if session else f"{virtual_key} opening {opening}"


def session_of(headers: Headers) -> str:
    """The session that the client names in a header; empty: it names none."""
    return next((value.decode("latin-1") for header, value in headers if header == SESSION and value), "")


def opening(said: Plain) -> str:
    """A digest of the system prompt and the user's first turn.

    It leaves out what may change in the middle of a conversation: the model, cache markers, which move from turn to
    turn, and what the client says about itself.
    """
    messages = elements_of.decode(said.members["messages"])
    first = next((turn for turn in messages if _turn.decode(turn).role == "user"), messages[0])
    digest = blake2b(digest_size=16)
    for part in (unattributed(memoryview(said.members.get("system", b"null"))), memoryview(first)):
        digest.update(sorted_out(bytes(part))[: LONG + 1])
    return digest.hexdigest()


def unattributed(system: memoryview) -> memoryview:
    """A system prompt without what the client says about itself in the first blocks, or the first lines of a text."""
    if bytes(system[:1]) == b"[":
        blocks = elements_of.decode(system)
        first = next((at for at, block in enumerate(blocks) if not is_attribution(block)), len(blocks))
        return memoryview(b"[%b]" % b",".join(blocks[first:])) if first else system
    if bytes(system[:2]).lower() not in (b'"x', b'"\\'):
        return system
    text = msgspec.json.decode(system, type=str)
    return memoryview(msgspec.json.encode(said)) if (said := without_attribution(text)) != text else system


def without_attribution(text: str) -> str:
    """A system prompt without the lines at its beginning in which the client describes itself."""
    while text.lower().startswith(ATTRIBUTION):
        text = text.partition("\n")[2].lstrip("\n")
    return text


def is_attribution(block: msgspec.Raw) -> bool:
    """Whether a block of a system prompt is what the client says about itself."""
    try:
        return _said.decode(block).text.lower().startswith(ATTRIBUTION)
    except msgspec.ValidationError:
        return False


def sorted_out(part: bytes) -> bytes:
    """A system prompt or a turn as JSON with sorted members and without cache markers."""
    value = decode_all(part)
    if isinstance(value, dict):
        value["content"] = unmarked(value.get("content"))
    else:
        value = unmarked(value)
    try:
        return msgspec.json.encode(ordered(value))
    except RecursionError:  # valid JSON, but too deeply nested to be encoded
        return b"deep"


def ordered(value: Any) -> Any:
    """The value with the members of objects sorted by name. (msgspec's own sorting takes quadratic time.)"""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    return [ordered(one) for one in value] if isinstance(value, list) else value


def unmarked(content: Any) -> Any:
    """Content without cache markers. A text becomes a list of one block, as clients write it once it has a marker."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            block.pop("cache_control", None)
    return content
