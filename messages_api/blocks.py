"""The blocks that a Messages request is made of, as far as something can be known to be wrong about them.

An open list: a block or a source of a type that isn't named here passes as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar, Union

import msgspec
from msgspec import Raw, Struct

# Of a type, the members that it requires, and what each is.
Needs = Mapping[str | None, Mapping[str, str]]

MISSING = Raw(b"")
# The first byte of a value in JSON, by its type.
BEGINNINGS = {"string": ord('"'), "object": ord("{")}


class Members(Struct, gc=False):
    """An object whose members don't matter here: none of them is kept."""


class Typed(Struct, gc=False):
    """Something whose `type` says which of its members are required."""

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
    """Where a cached prefix ends, and for how long it is kept."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Source(Typed):
    """Where an image or a document comes from."""

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
    citations: list[Members] | None = None


class Image(Cacheable, tag="image"):
    """A picture."""

    source: Source


class Document(Cacheable, tag="document"):
    """A document."""

    source: Source
    title: str | None = None
    context: str | None = None
    citations: Members | None = None

    @property
    def content(self) -> Raw:
        """The blocks that it is made of, if it is."""
        return self.source.content


class SearchResult(Cacheable, tag="search_result"):
    """Something found, to be cited."""

    content: list[InnerBlock]
    source: str
    title: str
    citations: Members | None = None


class ContainerUpload(Cacheable, tag="container_upload"):
    """A file for the container."""

    file_id: str


class ToolUse(Cacheable, tag="tool_use"):
    """A tool that the model asked for."""

    id: str
    name: str
    input: Members


class ServerToolUse(ToolUse, tag="server_tool_use"):
    """A tool that the provider ran."""


class ToolResult(Cacheable, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[InnerBlock] | None = None
    is_error: bool | None = None


class Uncacheable(Struct, kw_only=True, gc=False):
    """A block that no cached prefix may end with."""

    cache_control: None = None


class Thinking(Uncacheable, tag="thinking"):
    """What the model thought, signed."""

    thinking: str
    signature: str


class RedactedThinking(Uncacheable, tag="redacted_thinking"):
    """What the model thought, sealed."""

    data: str


class FallbackMark(Uncacheable, tag="fallback"):
    """Where another model took over."""


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
# Nothing is known to be wrong about these: that they are named only saves them the longer way of unknown types.
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


class Passing(Struct, gc=False):
    """A block about which nothing is known to be wrong."""

    cache_control: Raw = MISSING
    content: Raw = MISSING


Block = TypeVar("Block")


def blocks(*more: str) -> Any:
    """The blocks that we know, and those of more types, about which nothing is known to be wrong."""
    passing = (msgspec.defstruct(name, [], bases=(Passing,), tag=name, gc=False) for name in (*PASSING, *more))
    return Union[(*CHECKED, *passing)]
