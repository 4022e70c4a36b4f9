"""The members of a Messages request that are checked. The list is open: an unlisted member passes unchanged, and so
does a block, tool or source of an unlisted type. Null counts as left out wherever a member is optional.
docs/validation.md has an example of each rule. https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Generic, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from messages_api.request.blocks import MISSING, Block, CacheControl, Needs, Typed, UnreadObject

# A model's name reaches logs, pages and the ledger: ASCII, no spaces or control characters. Not a pattern of msgspec's:
# with those, an interpreter that ends may crash (https://github.com/msgspec/msgspec/issues/717).
MODEL = re.compile(r"[!-~]{1,200}")
MAX_TOKENS = 10_000_000
MAX_MESSAGES = 100_000
MIN_THINKING = 1024
ANY_MESSAGES = Meta(min_length=1, max_length=MAX_MESSAGES)

MaxTokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class Format(Typed):
    """The required form of an answer in JSON."""

    NEEDS: ClassVar[Needs] = {"json_schema": {"schema": "object"}}

    type: str
    schema: Raw = MISSING


class OutputConfig(Struct, gc=False):
    """The form of the answer, and the effort for it."""

    format: Format | None = None
    effort: str | None = None
    task_budget: UnreadObject | None = None


class ContextEdit(Struct, gc=False):
    """An edit by which the provider shortens a long conversation."""

    type: str


class ContextManagement(Struct, gc=False):
    """The edits that shorten a long conversation."""

    edits: list[ContextEdit] | None = None


class UserTurn(Struct, Generic[Block], tag_field="role", tag="user", gc=False):
    """A turn of the user's."""

    content: str | list[Block]


class Assistant(Struct, Generic[Block], tag_field="role", tag="assistant", gc=False):
    """A turn of the model's."""

    content: str | list[Block]


class System(Struct, Generic[Block], tag_field="role", tag="system", gc=False):
    """Instructions in the middle of the conversation; it may have other members than `content`."""

    content: str | list[Block] | UnsetType = UNSET


WEB_SEARCHES = ("web_search_20250305", "web_search_20260209", "web_search_20260318")


class Tool(Typed):
    """A tool: the caller's own, unless its type says otherwise. An advisor is another model."""

    NEEDS: ClassVar[Needs] = {
        None: {"name": "string", "input_schema": "object"},
        "custom": {"name": "string", "input_schema": "object"},
        "advisor_20260301": {"model": "string"},
    }

    type: str | None = None
    name: Raw = MISSING
    input_schema: Raw = MISSING
    model: Raw = MISSING
    cache_control: CacheControl | None = None
    defer_loading: Any = None
    max_uses: Any = None
    max_tokens: Any = None
    max_content_tokens: Any = None
    allowed_callers: Any = None
    response_inclusion: Any = None
    allowed_domains: Any = None
    blocked_domains: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocked_domains and self.allowed_domains and self.type in WEB_SEARCHES:
            raise ValueError("blocked_domains: Not allowed together with allowed_domains")
        if self.type == "advisor_20260301":
            check_model("model", msgspec.json.decode(self.model))
        if self.defer_loading is True and self.cache_control is not None:
            raise ValueError("cache_control: Not allowed together with defer_loading")


class AutoChoice(Struct, tag="auto"):
    """The model may use a tool."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(AutoChoice, tag="any"):
    """The model must use a tool."""


class ToolChoice(AutoChoice, tag="tool", kw_only=True):
    """The model must use this tool."""

    name: str


class NoChoice(Struct, tag="none"):
    """The model may not use a tool."""


class ThinkingSettings(Struct):
    """Whether the model thinks before it answers, and how much."""

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

    NEEDS: ClassVar[Needs] = {"url": {"name": "string", "url": "string"}}

    type: str
    name: Raw = MISSING
    url: Raw = MISSING


class Metadata(Struct):
    """What the caller tells the provider about its own user."""

    user_id: str | None = None


def check_model(where: str, name: str) -> None:
    if not MODEL.fullmatch(name):
        raise ValueError(f"{where}: Expected a model's name: 1 to 200 characters of ASCII without spaces")


class Fallback(Struct, gc=False):
    """Anthropic's own kind of fallback: a model to ask if the previous one declines, with its own settings."""

    model: str
    max_tokens: MaxTokens | None = None
    speed: str | None = None
    thinking: ThinkingSettings | None = None
    output_config: OutputConfig | None = None

    def __post_init__(self) -> None:
        check_model("model", self.model)


class CountBody(Struct, Generic[Block], kw_only=True):
    """A request to count tokens: a Messages request without the members about its answer. `fallbacks` may be models
    (ours), objects or `default` (Anthropic's own)."""

    model: str
    messages: Annotated[list[UserTurn[Block] | Assistant[Block] | System[Block]], ANY_MESSAGES]
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: ThinkingSettings | None = None
    output_format: Format | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    mcp_servers: list[McpServer] | None = None
    fallbacks: Literal["default"] | list[str | Fallback] | None = None
    speed: str | None = None
    compaction: UnreadObject | None = None
    billing_policy: UnreadObject | None = None

    def __post_init__(self) -> None:
        check_model("model", self.model)
        if self.compaction is not None and self.context_management is not None:
            raise ValueError("compaction: Not allowed together with context_management")
        if self.fallbacks is not None:
            self.check_fallbacks()

    def check_fallbacks(self) -> None:
        models = self.fallbacks if isinstance(self.fallbacks, list) else ()
        if len({type(model) for model in models}) > 1:
            raise ValueError("fallbacks: Expected strings (each a model or provider/model) or objects, not both")
        for index, model in enumerate(models):
            if isinstance(model, str):
                check_model(f"fallbacks.{index}", model)

    def our_fallbacks(self) -> list[str]:
        """The gateway's own kind: models, each with or without its provider."""
        return [each for each in self.fallbacks or () if isinstance(each, str)] if self.fallbacks != "default" else []

    def their_fallbacks(self) -> list[Fallback]:
        """Anthropic's own kind."""
        return [each for each in self.fallbacks or () if isinstance(each, Fallback)]


class MessagesBody(CountBody[Block], kw_only=True):
    """A Messages request."""

    # Optional here, because a key may have a default for it.
    max_tokens: MaxTokens | UnsetType = UNSET
    stream: bool | None = None
    temperature: Fraction | None = None
    top_p: Fraction | None = None
    top_k: Count | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    container: str | UnreadObject | None = None
    diagnostics: UnreadObject | None = None
    thread: UnreadObject | None = None
    fallback_credit_token: str | UnreadObject | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fallback_credit_token is not None and (self.fallbacks == "default" or self.their_fallbacks()):
            raise ValueError("fallback_credit_token: Not allowed together with fallbacks")


class OpenTurn(Struct):
    """A turn whose blocks are read separately."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Raw] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.content is UNSET and self.role != "system":
            raise ValueError("content: Field required")


OpenTurns = Annotated[list[OpenTurn], ANY_MESSAGES]
OpenSystem = str | list[Raw] | None


class OpenCountBody(CountBody[Any], kw_only=True):
    """A request to count tokens that has a block of an unknown type: a union in msgspec is closed."""

    messages: OpenTurns  # type: ignore[assignment]
    system: OpenSystem = None


class OpenMessagesBody(MessagesBody[Any], kw_only=True):
    """A Messages request that has a block of an unknown type."""

    messages: OpenTurns  # type: ignore[assignment]
    system: OpenSystem = None
