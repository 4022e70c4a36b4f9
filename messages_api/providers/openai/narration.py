"""Blocks that only Anthropic's API has, as text: what its tools were asked for and found, summaries, files, and what it
brings in years to come. Pure.

A conversation that searched the web with Claude goes on with another model, which reads what there was to read. What
is sealed (`encrypted_content` and the like) says nothing to another model, and is left out.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools (November 2026)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# What isn't for reading: how blocks hang together, and seals.
UNREAD = re.compile(
    r"type|id|tool_use_id|cache_control|signature|citations|caller|media_type|file_type|tool_changes|encrypted_.*"
)
# Members that need no name before them.
PLAIN = ("text", "content", "output", "stdout")
# A seal by another name: long, and nothing but base64.
SEALED = re.compile(r"[A-Za-z0-9+/_=-]{200,}")
# Thoughts of another model, and marks without words.
SILENT = ("thinking", "redacted_thinking", "fallback")


def narrated(block: dict[str, Any]) -> str:
    """What a block says to another model; empty where that is nothing."""
    kind = str(block.get("type"))
    if kind in SILENT or (kind == "compaction" and not block.get("content")):
        return ""
    if kind.endswith("tool_use"):
        asked = json.dumps(block.get("input"), ensure_ascii=False)
        return f"[{kind}: {block.get('name')} {asked}]"
    failed = " failed" if block.get("is_error") else ""
    said = "\n".join(lines(block))
    return f"[{kind}{failed}]\n{said}" if said else f"[{kind}{failed}]"


def lines(value: Any, name: str = "") -> Iterator[str]:
    """What there is to read in a value of JSON."""
    match value:
        case str():
            if value and not SEALED.fullmatch(value):
                yield value if name in PLAIN or not name else f"{name}: {value}"
        case bool() | None:
            pass
        case int() | float():
            yield f"{name}: {value}" if name else str(value)
        case list():
            for each in value:
                yield from lines(each, name)
        case {"type": "text", "data": str(said)}:
            yield said
        case {"type": "base64"}:
            yield "(not shown)"
        case dict():
            for member, inner in value.items():
                if not UNREAD.fullmatch(member):
                    yield from lines(inner, member)
