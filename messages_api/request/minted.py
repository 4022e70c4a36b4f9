"""Signatures that the gateway makes for thinking that a provider doesn't sign; and how that thinking is cut out of a
request to a provider that signs.

Clients send back signed thinking only, and a provider that signs refuses the signatures of others. Without this, a
conversation that begins at a provider without signatures could never go on at one with signatures.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from messages_api.json_text import byte_edits, positions
from messages_api.json_text.byte_edits import Edit, Span
from messages_api.json_text.positions import ESCAPED

BEGINNING = "unsigned_"
_BEGINNING = BEGINNING.encode()
MINTED = re.compile(BEGINNING + "[0-9a-f]{24}")


def signature() -> str:
    return BEGINNING + secrets.token_hex(12)


def cuts(body: bytes) -> list[Edit]:
    """The edits that remove thinking with a signature of the gateway's from a request.

    A turn that has nothing else is removed too, because providers refuse an empty turn and accept two user turns in a
    row. If no turn would be left, all of them stay.

    The edits of a turn don't depend on other turns: what is left of a conversation is the same in each of its requests,
    so that providers find it in their caches.
    """
    if not may_have(body):
        return []
    spans, edits, emptied = list[Span](), list[Edit](), set[int]()
    for begin, end in byte_edits.elements(body, "messages"):
        turn = body[begin:end]
        if may_have(turn):
            blocks = content(turn)
            out = {index for index, block in enumerate(blocks) if is_ours(block.value)}
            if out and len(out) == len(blocks):
                emptied.add(len(spans))
            else:
                edits += byte_edits.dropped([(begin + block.begin, begin + block.end) for block in blocks], out)
        spans.append((begin, end))
    if len(emptied) == len(spans):
        return []
    return sorted([*edits, *byte_edits.dropped(spans, emptied)])


def may_have(part: bytes) -> bool:
    """Whether a part of a request may have a signature of the gateway's, escaped or not."""
    # Python's search from the end is several times as fast.
    return part.rfind(_BEGINNING) >= 0 or (part.rfind(b"\\u00") >= 0 and ESCAPED.search(part) is not None)


def content(turn: bytes) -> list[positions.JsonPart]:
    text = turn.decode("latin-1")
    try:
        found = positions.last(positions.members(text), "content")
        return positions.elements(text, found.at) if found and isinstance(found.value, list) else []
    except RecursionError:
        return []


def is_ours(block: Any) -> bool:
    """Whether a block is thinking with a signature of the gateway's."""
    if not isinstance(block, dict) or block.get("type") != "thinking":
        return False
    signed = block.get("signature")
    return isinstance(signed, str) and MINTED.fullmatch(signed) is not None
