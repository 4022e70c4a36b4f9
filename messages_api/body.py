"""What a Messages request is made of, as far as something can be known to be wrong about it.

An open list: a member that isn't named here, and a block, a tool or a source of a type that isn't, passes as it is.
Null counts as left out wherever a member may be. docs/validation.md has an example of each rule.
https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

# A model's name reaches logs, pages and the ledger: ASCII, no spaces or control characters. Not a pattern of msgspec's:
# with those, an interpreter that ends may crash (https://github.com/msgspec/msgspec/issues/717).
MODEL = re.compile(r"[!-~]{1,200}")
MAX_TOKENS = 10_000_000
MAX_MESSAGES = 100_000
MIN_THINKING = 1024
ANY_MESSAGES = Meta(min_length=1, max_length=MAX_MESSAGES)

Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Members = dict[str, Raw]

MISSING = Raw(b"")
# How a value in JSON begins tells its type.
BEGINNINGS = {"string": b'"', "object": b"{"}


class Typed(Struct):
    """Something whose `type` says which of its members are required."""

    NEEDS: ClassVar[Mapping[str | None, Mapping[str, str]]] = {}

    def __post_init__(self) -> None:
        for name, kind in self.NEEDS.get(self.type, {}).items():  # type: ignore[attr-defined]
            value: Raw = getattr(self, name)
            if not value:
                raise ValueError(f"{name}: Field required")
            if bytes(memoryview(value)[:1]) != BEGINNINGS[kind]:
                raise ValueError(f"{name}: Expected {kind}")


class CacheControl(Struct):
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


class InnerBlock(Struct, gc=False):
    """A block within a block."""

    type: str


class Cacheable(Struct, kw_only=True, gc=False):
    """A block that a cached prefix may end with."""

    cache_control: CacheControl | None = None


class Text(Cacheable, tag="text"):
    """What somebody said."""

    text: str


class Image(Cacheable, tag="image"):
    """What somebody showed."""

    source: Source


class Document(Cacheable, tag="document"):
    """What somebody handed over to read."""

    source: Source
    title: str | None = None
    context: str | None = None


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


class Thinking(Struct, tag="thinking"):
    """What the model thought, signed."""

    thinking: str
    signature: str


class RedactedThinking(Struct, tag="redacted_thinking"):
    """What the model thought, sealed."""

    data: str


CHECKED = (Text, Image, Document, ToolUse, ServerToolUse, ToolResult, Thinking, RedactedThinking)
# Nothing is known to be wrong about these: that they are named only saves them the longer way of unknown types.
PASSING = (
    "search_result",
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
    "container_upload",
    "advisor_tool_result",
    "compaction",
    "fallback",
)

if TYPE_CHECKING:
    KnownBlock = Any
else:
    KnownBlock = Union[(*CHECKED, *(msgspec.defstruct(name, [], tag=name) for name in PASSING))]


class User(Struct, tag_field="role", tag="user", gc=False):
    """A turn of the user's."""

    content: str | list[KnownBlock]


class Assistant(Struct, tag_field="role", tag="assistant", gc=False):
    """A turn of the model's."""

    content: str | list[KnownBlock]


class System(Struct, tag_field="role", tag="system", gc=False):
    """Instructions in mid-conversation; it may carry other members than content."""

    content: str | list[KnownBlock] | UnsetType = UNSET


class Tool(Typed):
    """A tool: the caller's own, unless its type says otherwise."""

    NEEDS = {kind: {"name": "string", "input_schema": "object"} for kind in (None, "custom")}

    type: str | None = None
    name: Raw = MISSING
    input_schema: Raw = MISSING
    cache_control: CacheControl | None = None


class AutoChoice(Struct, tag="auto"):
    """The model may use a tool."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(AutoChoice, tag="any"):
    """The model has to use one."""


class ToolChoice(AutoChoice, tag="tool", kw_only=True):
    """The model has to use this one."""

    name: str


class NoChoice(Struct, tag="none"):
    """The model may use none."""


class ThinkingSettings(Struct):
    """Whether the model thinks first, and how long."""

    type: str
    budget_tokens: Any = None

    def __post_init__(self) -> None:
        if self.type != "enabled":
            return
        if self.budget_tokens is None:
            raise ValueError("budget_tokens: Field required")
        if type(self.budget_tokens) is not int or self.budget_tokens < MIN_THINKING:
            raise ValueError(f"budget_tokens: Expected integer >= {MIN_THINKING}")


class McpServer(Typed):
    """A server whose tools the provider calls."""

    NEEDS = {"url": {"name": "string", "url": "string"}}

    type: str
    name: Raw = MISSING
    url: Raw = MISSING


class Metadata(Struct):
    """What the provider may know of the caller's user."""

    user_id: str | None = None


def check_model(where: str, name: str) -> None:
    if not MODEL.fullmatch(name):
        raise ValueError(f"{where}: Expected a model's name: 1 to 200 characters of ASCII without spaces")


class CountBody(Struct, kw_only=True):
    """A request to count tokens: a Messages request without what is about its answer."""

    model: str
    messages: Annotated[list[User | Assistant | System], ANY_MESSAGES]
    system: str | list[KnownBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: ThinkingSettings | None = None
    output_format: Members | None = None
    output_config: Members | None = None
    cache_control: CacheControl | None = None
    context_management: Members | None = None
    mcp_servers: list[McpServer] | None = None

    def __post_init__(self) -> None:
        check_model("model", self.model)


class MessagesBody(CountBody, kw_only=True):
    """A Messages request. `fallbacks` may be models (ours), objects or `default` (Anthropic's own)."""

    max_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
    stream: bool | None = None
    temperature: Fraction | None = None
    top_p: Fraction | None = None
    top_k: Count | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    container: str | Members | None = None
    fallbacks: Literal["default"] | list[str | Members] | None = None

    def __post_init__(self) -> None:
        check_model("model", self.model)
        models = self.fallbacks if isinstance(self.fallbacks, list) else []
        if len({type(model) for model in models}) > 1:
            raise ValueError("fallbacks: Expected strings (each a model or provider/model) or objects, not both")
        for index, model in enumerate(models):
            if isinstance(model, str):
                check_model(f"fallbacks.{index}", model)


class OpenTurn(Struct):
    """A turn whose blocks are read one by one."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Raw] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.content is UNSET and self.role != "system":
            raise ValueError("content: Field required")


OpenTurns = Annotated[list[OpenTurn], ANY_MESSAGES]
OpenSystem = str | list[Raw] | None


class OpenCountBody(CountBody, kw_only=True):
    """A request to count tokens with a block that we don't know somewhere: a union in msgspec is closed."""

    messages: OpenTurns  # type: ignore[assignment]
    system: OpenSystem = None


class OpenMessagesBody(MessagesBody, kw_only=True):
    """A Messages request with a block that we don't know somewhere."""

    messages: OpenTurns  # type: ignore[assignment]
    system: OpenSystem = None
