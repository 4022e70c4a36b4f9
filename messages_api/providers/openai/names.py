"""Names of tools that every provider accepts. Pure.

OpenAI accepts up to 64 letters, digits, `_` and `-` (https://platform.openai.com/docs/api-reference/chat/create), and
DeepSeek, Gemini and Qwen also up to 64 (as of 2026). Anthropic accepts 128, and MCP servers use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

LENGTH = 64
FITS = re.compile(rf"[A-Za-z0-9_-]{{1,{LENGTH}}}")
MISFIT = re.compile(r"[^A-Za-z0-9_-]")
DIGITS = 12
MARK = "<|"
CHANGES = ("tool_addition", "tool_removal")

# An object, and the member of it that is a tool's name.
NamePlace = tuple[dict[str, Any], str]


def shorten(request: dict[str, Any]) -> dict[str, str]:
    """Replace names of tools that don't fit, in place. Returns the client's own names by their replacements.

    A name gets the same replacement in every request. Different names in a request stay different.
    """
    places = [place for place in named(request) if isinstance(place[0].get(place[1]), str)]
    own = {holder[member] for holder, member in places}
    misfits = sorted(name for name in own if not FITS.fullmatch(name))
    if not misfits:
        return {}
    short: dict[str, str] = {}
    taken = own - set(misfits)
    for name in misfits:
        short[name] = free(name, taken)
        taken.add(short[name])
    for holder, member in places:
        holder[member] = short.get(holder[member], holder[member])
    return {made: name for name, made in short.items()}


def own(name: str, own_names: Mapping[str, str]) -> str:
    """The client's name of a tool that a model calls.

    Servers of gpt-oss sometimes leave a mark of its format behind the name (`Bash<|channel|>commentary`):
    https://github.com/vllm-project/vllm/issues/32587 (January 2026).
    """
    bare = name.partition(MARK)[0].strip() or name
    return own_names.get(bare, bare)


def free(name: str, taken: set[str]) -> str:
    """A name that fits and isn't taken: the beginning of the own name, and its digest."""
    digest = sha256(name.encode("utf-8", "replace")).hexdigest()[:DIGITS]
    end, turn = f"_{digest}", 0
    while (made := MISFIT.sub("_", name)[: LENGTH - len(end)] + end) in taken:
        turn += 1
        end = f"_{digest}{turn}"
    return made


def named(request: dict[str, Any]) -> Iterator[NamePlace]:
    """The places in a request that name tools."""
    yield from ((tool, "name") for tool in request.get("tools") or () if tool.get("type") in (None, "custom"))
    choice = request.get("tool_choice") or {}
    if choice.get("type") == "tool":
        yield choice, "name"
    for message in request["messages"]:
        content = message.get("content")
        yield from in_blocks(content if isinstance(content, list) else [])


def in_blocks(blocks: list[Any]) -> Iterator[NamePlace]:
    """The places in blocks, at any depth, that name tools."""
    for block in blocks:
        if not isinstance(block, dict):
            continue
        kind, inner = block.get("type"), block.get("content")
        if kind == "tool_use":
            yield block, "name"
        elif kind == "tool_reference":
            yield block, "tool_name"
        elif kind == "tool_result" and isinstance(inner, list):
            yield from in_blocks(inner)
        elif kind in CHANGES:
            yield from in_change(block.get("tool"))
        elif kind == "compaction" and isinstance(changes := block.get("tool_changes"), list):
            yield from in_blocks(changes)


def in_change(tool: Any) -> Iterator[NamePlace]:
    """The place of the name in the tool that a block adds or removes."""
    if isinstance(tool, dict):
        definition = tool.get("definition")
        yield (definition, "name") if isinstance(definition, dict) else (tool, "name")
