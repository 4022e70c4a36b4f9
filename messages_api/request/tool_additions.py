"""The tools that a request defines in the middle of the conversation, in addition to those in its `tools`.

A system turn may have a block `tool_addition` whose `tool` has a `definition` in the form of an entry of `tools` (beta
`inline-tools-2026-09-15`). So may the `tool_changes` of a `compaction`, which clients send back as the provider wrote
them.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview, and the types of Anthropic's SDK (November 2026)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from messages_api.json_text.byte_edits import elements_of
from messages_api.request.blocks import MISSING
from messages_api.request.plain import Plain

ADDITION = "tool_addition"
WORD, DEFINITION = b"tool_addition", b"definition"
QUOTED = b'"%b"' % WORD
# Levels from the list of turns to a block within a block: each of them reads what is within it once more.
LEVELS = 8


class ToolCarrier(Struct, gc=False):
    """A turn or a block, with the members that may add a tool or have blocks that do."""

    type: Any = None
    tool: Raw = MISSING
    content: Raw = MISSING
    tool_changes: Raw = MISSING


class Added(Struct, gc=False):
    """What a block adds: a tool that it defines, or (without a definition) one that the request defines elsewhere."""

    definition: Raw = MISSING


_part = msgspec.json.Decoder(ToolCarrier)
_added = msgspec.json.Decoder(Added)


def definitions(said: Plain) -> dict[bytes, str]:
    """The definitions of tools in the turns and the system prompt of a request, each with the path where it occurs
    first. Tools that the conversation removes later are included.

    Raises:
        RecursionError: the request is nested too deep.
    """
    found: dict[bytes, str] = {}
    if said.has(WORD) and said.has(DEFINITION):
        for member in ("system", "messages"):
            for path, definition in inside(member, bytes(said.members.get(member, b"")), LEVELS):
                found.setdefault(definition, path)
    return found


def inside(path: str, value: bytes, levels: int) -> Iterator[tuple[str, bytes]]:
    """The definitions in a turn, a block or a list of these, with their paths, down to a depth of `levels`."""
    if not levels or QUOTED not in value:
        return
    if value[:1] == b"[":
        for index, element in enumerate(elements_of.decode(value)):
            yield from inside(f"{path}.{index}", bytes(element), levels - 1)
    elif value[:1] == b"{":
        part = _part.decode(value)
        if part.type == ADDITION and (definition := definition_of(part.tool)):
            yield f"{path}.tool.definition", definition
        yield from inside(f"{path}.content", bytes(part.content), levels - 1)
        yield from inside(f"{path}.tool_changes", bytes(part.tool_changes), levels - 1)


def definition_of(tool: Raw) -> bytes:
    """The definition of an added tool; empty: it has none."""
    try:
        definition = bytes(_added.decode(tool).definition)
    except msgspec.DecodeError:  # not an object, or missing
        return b""
    return b"" if definition == b"null" else definition
