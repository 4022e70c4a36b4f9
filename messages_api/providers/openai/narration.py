"""Blocks that only Anthropic's API has, as text for another model: uses of Anthropic's tools and their results,
summaries, files, and blocks of future types. Pure.

So a conversation that searched the web with Claude can go on with another model, which reads the results. Sealed
contents (`encrypted_content` and the like) mean nothing to another model, and are left out.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools (November 2026)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Members without text for the model: references between blocks, and seals.
UNREAD = re.compile(
    r"type|id|tool_use_id|cache_control|signature|citations|caller|media_type|file_type|tool_changes|encrypted_.*"
)
# Members whose text stands without their name.
PLAIN = ("text", "content", "output", "stdout")
# Sealed contents in a member of another name: a long text of base64.
SEALED = re.compile(r"[A-Za-z0-9+/_=-]{200,}")
# Thinking of another model, and marks without text.
SILENT = ("thinking", "redacted_thinking", "fallback")


def narrated(block: dict[str, Any]) -> str:
    """A block as text for another model; empty: it has nothing to read."""
    kind = str(block.get("type"))
    if kind in SILENT or (kind == "compaction" and not block.get("content")):
        return ""
    if kind.endswith("tool_use"):
        asked = json.dumps(block.get("input"), ensure_ascii=False)
        return f"[{kind}: {block.get('name')} {asked}]"
    failed = " failed" if block.get("is_error") else ""
    text = "\n".join(lines(block))
    return f"[{kind}{failed}]\n{text}" if text else f"[{kind}{failed}]"


def lines(value: Any, name: str = "") -> Iterator[str]:
    """The readable lines of a JSON value."""
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
        case {"type": "text", "data": str(text)}:
            yield text
        case {"type": "base64"}:
            yield "(not shown)"
        case dict():
            for member, inner in value.items():
                if not UNREAD.fullmatch(member):
                    yield from lines(inner, member)
