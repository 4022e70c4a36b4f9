"""How long a request asks a provider to keep its cache writes.

A `cache_control` may be at the top (automatic caching), in system blocks, tools and content blocks, and in blocks
within those. Its `ttl` is `5m` or `1h`; without one it is five minutes.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read in November 2026
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from messages_api.request.blocks import (
    CacheControl,
    ContainerUpload,
    FallbackMark,
    Image,
    RedactedThinking,
    ServerToolUse,
    Text,
    Thinking,
    ToolUse,
    UncheckedBlock,
)
from messages_api.request.body import CountBody, OpenCountBody, OpenMessagesBody

# The duration that a request asks for: five minutes (also if it names none), an hour, or both.
CacheWrites = Literal["5m", "1h", "both"]

HOUR = "1h"
# Blocks that contain no other blocks.
LEAVES = frozenset((Text, Image, ContainerUpload, ToolUse, ServerToolUse, Thinking, RedactedThinking, FallbackMark))
# The types of requests that have a block of an unknown type.
OPEN = (OpenCountBody, OpenMessagesBody)
MARK = b"cache_control"
LIST, OBJECT = b"[", b"{"

any_value = msgspec.json.Decoder().decode
any_blocks = msgspec.json.Decoder(list[UncheckedBlock]).decode
any_block = msgspec.json.Decoder(UncheckedBlock).decode


def asked_for(read: CountBody[Any]) -> CacheWrites:
    """The duration that a checked request asks for."""
    hours = {duration(mark) == HOUR for mark in marks(read)}
    if True not in hours:
        return "5m"
    return "both" if False in hours else "1h"


def marks(read: CountBody[Any]) -> list[CacheControl | Raw]:
    """Each `cache_control` of a request. This runs for every call, and some have a thousand blocks."""
    contents = [read.system, *[message.content for message in read.messages]]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    if isinstance(read, OPEN):
        blocks = [any_block(block) for block in blocks]
    found = [block.cache_control for block in (read, *(read.tools or ()), *blocks) if block.cache_control]
    for block in [block for block in blocks if type(block) not in LEAVES]:
        content = inner_blocks(block.content) if isinstance(block.content, Raw) else block.content
        if isinstance(content, list):
            found += [inner.cache_control for inner in content if inner.cache_control]
    return found


def inner_blocks(content: Raw) -> list[UncheckedBlock]:
    """The blocks in a value of any type; empty if it can't have a `cache_control`."""
    listed = bytes(content)
    if listed[:1] != LIST or MARK not in listed:
        return []
    try:
        return any_blocks(listed)
    except (ValueError, RecursionError):  # no blocks
        return []


def duration(cache_control: CacheControl | Raw) -> object:
    """The `ttl` of a block's `cache_control`; None without one."""
    if isinstance(cache_control, CacheControl):
        return cache_control.ttl
    said = any_value(cache_control)
    return said.get("ttl") if isinstance(said, dict) else None
