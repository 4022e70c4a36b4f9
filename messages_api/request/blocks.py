"""The types of content blocks in a Messages request, with the members that are checked. The list is open: a block or
source of another type passes unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar, Union

import msgspec
from msgspec import Raw, Struct

# For each value of `type`: its required members, and the type of each.
Needs = Mapping[str | None, Mapping[str, str]]

MISSING = Raw(b"")
# The first byte of a value in JSON, by its type.
BEGINNINGS = {"string": ord('"'), "object": ord("{")}


class UnreadObject(Struct, gc=False):
    """An object whose members aren't checked or kept."""


class Typed(Struct, gc=False):
    """An object whose `type` decides which members are required."""

    NEEDS: ClassVar[Needs] = {}

    def __post_init__(self) -> None:
        needs = self.NEEDS.get(self.type)  # type: ignore[attr-defined]
        if needs is None:
            return
        for name, kind in needs.items():
            value: Raw = getattr(self, name)
            if value is MISSING:
                raise ValueError(f"{name}: Field required")
            if memoryview(value)[0] != BEGINNINGS[kind]:
                raise ValueError(f"{name}: Expected {kind}")


class CacheControl(Struct, gc=False):
    """The end of a cached prefix, and how long the prefix is cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Source(Typed):
    """The source of an image or a document."""

    NEEDS = {
        "base64": {"media_type": "string", "data": "string"},
        "text": {"media_type": "string", "data": "string"},
        "url": {"url": "string"},
        "file": {"file_id": "string"},
    }

    type: str
    media_type: Raw = MISSING
    data: Raw = MISSING
    url: Raw = MISSING
    file_id: Raw = MISSING
    content: Raw = MISSING


class InnerBlock(Struct, gc=False):
    """A block within a block."""

    type: str
    cache_control: Raw = MISSING


class Cacheable(Struct, kw_only=True, gc=False):
    """A block that a cached prefix may end with."""

    cache_control: CacheControl | None = None


class Text(Cacheable, tag="text"):
    """A text."""

    text: str
    citations: list[UnreadObject] | None = None


class Image(Cacheable, tag="image"):
    """A picture."""

    source: Source


class Document(Cacheable, tag="document"):
    """A document."""

    source: Source
    title: str | None = None
    context: str | None = None
    citations: UnreadObject | None = None

    @property
    def content(self) -> Raw:
        """Its content blocks, if its source has any."""
        return self.source.content


class SearchResult(Cacheable, tag="search_result"):
    """A search result that the model may cite."""

    content: list[InnerBlock]
    source: str
    title: str
    citations: UnreadObject | None = None


class ContainerUpload(Cacheable, tag="container_upload"):
    """A file to load into the container."""

    file_id: str


class ToolUse(Cacheable, tag="tool_use"):
    """The model's call of a client's tool."""

    id: str
    name: str
    input: UnreadObject


class ServerToolUse(ToolUse, tag="server_tool_use"):
    """A call of a tool that the provider ran."""


class ToolResult(Cacheable, tag="tool_result"):
    """The result of a tool."""

    tool_use_id: str
    content: str | list[InnerBlock] | None = None
    is_error: bool | None = None


class Uncacheable(Struct, kw_only=True, gc=False):
    """A block that no cached prefix may end with."""

    cache_control: None = None


class Thinking(Uncacheable, tag="thinking"):
    """Thinking of the model, signed."""

    thinking: str
    signature: str


class RedactedThinking(Uncacheable, tag="redacted_thinking"):
    """Thinking of the model, encrypted."""

    data: str


class FallbackMark(Uncacheable, tag="fallback"):
    """The place where another model took over."""


CHECKED = (
    Text,
    Image,
    Document,
    SearchResult,
    ContainerUpload,
    ToolUse,
    ServerToolUse,
    ToolResult,
    Thinking,
    RedactedThinking,
    FallbackMark,
)
# Types without checks. Naming them here only avoids the slower path of unknown types.
PASSING = (
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "tool_reference",
    "tool_addition",
    "tool_removal",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "advisor_tool_result",
    "compaction",
    "mid_conv_system",
)


class UncheckedBlock(Struct, gc=False):
    """A block of a type without checks."""

    cache_control: Raw = MISSING
    content: Raw = MISSING


Block = TypeVar("Block")


def blocks(*more: str) -> Any:
    """The known blocks, and further types without checks."""
    passing = (msgspec.defstruct(name, [], bases=(UncheckedBlock,), tag=name, gc=False) for name in (*PASSING, *more))
    return Union[(*CHECKED, *passing)]
