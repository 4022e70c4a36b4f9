"""Removes what Claude Code says about itself at the beginning of a system prompt, for a cloud that refuses it. Pure.

Bedrock answers with a 400: “x-anthropic-billing-header is a reserved keyword and may not be used in the system prompt”
(https://github.com/anthropics/claude-code/issues/24168, February 2026). It is no instruction, and Anthropic removes it
too.
"""

from __future__ import annotations

import msgspec

from messages_api.json_text import byte_edits, positions
from messages_api.json_text.byte_edits import Edit, Edits
from messages_api.request.conversation import ATTRIBUTION, without_attribution

SYSTEM = "system"
WORD = ATTRIBUTION.encode()


def without(body: bytes) -> bytes:
    """A checked request without these lines. Every other byte stays unchanged."""
    return byte_edits.apply(body, edits(body))


def edits(body: bytes) -> list[Edit]:
    made = Edits(body)
    place = made.members.find(SYSTEM)
    if place is None or WORD not in body[place.value : place.value_end].lower():
        return []
    if body[place.value : place.value + 1] == b'"':
        left = without_attribution(msgspec.json.decode(body[place.value : place.value_end], type=str))
        return (made.replace(SYSTEM, msgspec.json.encode(left)) if left else made.drop(SYSTEM)).in_order()
    spans, out = list(byte_edits.elements(body, SYSTEM, made.members)), set[int]()
    for index, (begin, end) in enumerate(spans):
        found = positions.last(positions.members(body[begin:end].decode("latin-1")), "text")
        if found is None or not isinstance(found.value, str):
            break
        text = msgspec.json.decode(body[begin + found.at : begin + found.end], type=str)
        left = without_attribution(text)
        if left:
            made.add([Edit(begin + found.at, begin + found.end, msgspec.json.encode(left))] if left != text else [])
            break
        if not text:
            break
        out.add(index)
    if len(out) == len(spans):
        return made.drop(SYSTEM).in_order()
    return made.add(byte_edits.dropped(spans, out)).in_order()
