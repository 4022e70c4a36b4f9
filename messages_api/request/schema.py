"""Checks a Messages request, and summarises it for the gateway. Unknown members pass unchanged.

The body is read twice. First it is checked to be strict JSON (UTF-8, no NaN, bounded depth, no duplicate of a member
that the gateway reads), because a provider may read a doubtful body differently; this also brings it into one spelling
(plain.py). Then it is read by the types in body.py and the rules in checks.py, which refuse known mistakes and are
never an allow-list. docs/validation.md lists every rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, ValidationError

from messages_api.request import pdf, plain, resellers, tool_additions
from messages_api.request.blocks import CacheControl, blocks
from messages_api.request.body import (
    MAX_TOKENS,
    CountBody,
    Fallback,
    McpServer,
    MessagesBody,
    OpenCountBody,
    OpenMessagesBody,
    ThinkingSettings,
    Tool,
    check_model,
)
from messages_api.request.cache_writes import CacheWrites, asked_for
from messages_api.request.checks import check_betas, check_blocks, check_names, check_thinking, in_words, objects
from messages_api.request.estimates import (
    EMPTY,
    FOR_A_FORMAT,
    FOR_ANY,
    FOR_EACH_TOOL,
    FOR_EACH_TOOL_OF_ITS_OWN,
    FOR_THINKING,
    FOR_TOOLS,
    NO_EXTRAS,
    Contents,
    Extras,
    Uses,
    contents,
)
from messages_api.request.plain import Plain, ascii_only, refuse

# The most models that a request may name besides its own: each of them is priced before the call.
MODELS = 20
# The most of the provider's own tools, of which equal ones without `max_uses` count once. Clients send a few.
OWN_TOOLS = 100

# Fast mode: a speed at Anthropic, and a service tier of the same models at OpenRouter.
# https://openrouter.ai/docs/guides/features/service-tiers (November 2026)
FAST = "fast"

UNKNOWN_TYPE = re.compile(r"^Invalid value .*\.type`$", re.DOTALL)

# The beginning of the types of advisors.
ADVISOR = "advisor_"

# Tools that run in a provider's loop, by the beginning of their types; other vendors write no date.
LOOPS = {
    "web_search": "web_search",
    "web_fetch": "web_fetch",
    "web_extract": "web_fetch",
    "code_execution_": "code_execution",
    "tool_search_tool_": "tool_search",
    ADVISOR: "advisor",
}
# Tools that the client runs, and those of MCP servers, which have an allowance by themselves.
# https://platform.claude.com/docs/agents-and-tools/tool-use/tool-reference (November 2026)
NO_LOOPS = ("bash_", "text_editor_", "computer_", "memory_", "browser_", "mcp_toolset", "function", "client:")

# Known members, and those of the objects that prices depend on.
KNOWN = frozenset(MessagesBody.__struct_fields__)
KNOWN_WITHIN: dict[str, frozenset[str]] = {
    name: frozenset(kind.__struct_fields__)
    for name, kind in {
        "tools": Tool,
        "thinking": ThinkingSettings,
        "fallbacks": Fallback,
        "cache_control": CacheControl,
        "mcp_servers": McpServer,
    }.items()
}

any_tool = msgspec.json.Decoder(Tool)
any_value = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What decides how a request is routed, held and answered.

    Attributes:
        max_tokens: the most tokens that any attempt may write; `max_tokens_in`: the member that says so.
        fallbacks: those of the gateway: models, each with or without its provider, in order.
        added: tokens that the provider adds to the prompt.
        lacks_max_tokens: the request sets no `max_tokens` for its own model.
        cache_writes: for how long the request asks to keep them.
        thinking_budget: tokens that the model may think.
        contents: the basis for an estimate of the prompt's tokens.
    """

    model: str
    max_tokens: int
    stream: bool
    fallbacks: tuple[str, ...] = ()
    extras: Extras = NO_EXTRAS
    added: int = FOR_ANY
    max_tokens_in: str = "max_tokens"
    lacks_max_tokens: bool = False
    cache_writes: CacheWrites = "5m"
    thinking_budget: int = 0
    contents: Contents = field(default=EMPTY, compare=False)

    @property
    def threaded(self) -> bool:
        """Whether the provider is to keep the conversation."""
        return any(one.kind == "thread" for one in self.extras.uses)


class RequestReader:
    """Reads one kind of request.

    A union of msgspec's types is closed, so a body with a block of an unknown type is read again, block by block. The
    reader learns the types of such blocks, so that this happens once per type and not with each request.
    """

    # Enough for the new types of a few releases of clients. A client that invents types only slows down new ones.
    LEARNT = 32
    NAME = re.compile(r"[a-z0-9_]{1,64}")

    def __init__(self, body: Any, open_body: type[CountBody[Any]]) -> None:
        self.body = body  # generic in its blocks
        self.learnt: set[str] = set()
        self.quick: msgspec.json.Decoder[CountBody[Any]] = msgspec.json.Decoder(body[blocks()])
        self.thorough = msgspec.json.Decoder(open_body)

    def read(self, body: bytes) -> CountBody[Any]:
        """The body by its types.

        Raises:
            ValidationError: the body breaks a rule. GatewayError: 400, a block that was read separately breaks a rule.
        """
        try:
            return self.quick.decode(body)
        except ValidationError as error:
            if not UNKNOWN_TYPE.match(str(error)):
                raise
        read: CountBody[Any] = self.thorough.decode(body)
        unknown = check_blocks(read.system, "system")
        for index, message in enumerate(read.messages):
            unknown |= check_blocks(message.content, f"messages.{index}.content")
        self.learn({name for name in unknown if self.NAME.fullmatch(name)})
        return read

    def learn(self, types: set[str]) -> None:
        """Accept blocks of these unknown types in the first reading from now on."""
        if types and len(self.learnt | types) <= self.LEARNT:
            self.learnt |= types
            self.quick = msgspec.json.Decoder(self.body[blocks(*self.learnt)])


readers = {False: RequestReader(MessagesBody, OpenMessagesBody), True: RequestReader(CountBody, OpenCountBody)}


def parse(
    body: bytes, *, betas: str | None = "", counting: bool = False, may_lack_max_tokens: bool = False
) -> MessagesRequest:
    """Read a Messages request, or one to count its tokens.

    Args:
        betas: the values of `anthropic-beta`, separated by commas; None: unknown here.
        may_lack_max_tokens: `max_tokens` may be missing, because the caller has a default for it (max_tokens.py).

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    return read(plain.of(body), betas=betas, counting=counting, may_lack_max_tokens=may_lack_max_tokens)


def read(
    said: Plain,
    *,
    betas: str | None = "",
    counting: bool = False,
    may_lack_max_tokens: bool = False,
    steps: pdf.Steps | None = None,
) -> MessagesRequest:
    """As `parse`, for a request in its plain spelling.

    Args:
        steps: how much of its PDFs is read, if it is one of several requests in a body.
    """
    check_names(said.names, KNOWN)
    resellers.check_members(set(said.names) - KNOWN)
    try:
        read = readers[counting].read(ascii_only(said.text))
        if added_later := tools_in_turns(said):
            read.tools = [*(read.tools or ()), *added_later]
    except ValidationError as error:
        refuse(in_words(str(error)))
    except (ValueError, RecursionError):
        refuse("The request body is not valid JSON.")
    for name in said.unusual:
        if known := KNOWN_WITHIN.get(name):
            for path, members in objects(name, said.members[name]):
                check_names(members, known, path)
    if isinstance(read, MessagesBody) and read.max_tokens is UNSET and not may_lack_max_tokens:
        refuse("max_tokens: Field required")
    if betas is not None:
        check_betas(read, betas)
        if read.thinking is not None:
            check_thinking(read, betas)
    if isinstance(read, MessagesBody):
        resellers.check_tier(read.service_tier)
    resellers.check_tools(read.tools or ())
    resellers.check_models((read.model, *read.our_fallbacks(), *(each.model for each in read.their_fallbacks())))
    advised = any(str(tool.type).casefold().startswith(ADVISOR) for tool in read.tools or ())
    found = contents(said, steps or pdf.Steps(), advised=advised)
    # Without a mark, nothing is asked for; looking for marks takes a pass over all blocks.
    return in_short(read, asked_for(read) if found.writes and not counting else "5m", found)


def tools_in_turns(said: Plain) -> list[Tool]:
    """The tools that a request defines outside of its `tools`: they do the same and cost the same.

    Raises:
        GatewayError: 400, one of them breaks a rule.
        RecursionError: the request is nested too deep.
    """
    tools = []
    for definition, path in tool_additions.definitions(said).items():
        try:
            tools.append(any_tool.decode(ascii_only(definition)))
        except ValidationError as error:
            refuse(in_words(str(error), path))
    return tools


def in_short(read: CountBody[Any], cache_writes: CacheWrites, contents: Contents) -> MessagesRequest:
    """Summarise a checked request for the rest of the gateway."""
    max_tokens, stream, geo, lacks, any_tier, fast = 0, False, None, False, False, False
    if isinstance(read, MessagesBody):
        any_tier, fast = read.service_tier == "auto", (read.service_tier or "").casefold() == FAST
        stream, geo, lacks = bool(read.stream), read.inference_geo, read.max_tokens is UNSET
        max_tokens = read.max_tokens or 0
    budget = read.thinking.budget_tokens if read.thinking is not None else 0
    budget = max(0, budget) if isinstance(budget, int) else 0  # with an unknown type of thinking, it may be anything
    thread = isinstance(read, MessagesBody) and read.thread is not None
    tools = [tool for tool in read.tools or () if tool.type not in (None, "custom") or tool.allowed_callers]
    plain = not (tools or read.mcp_servers or thread or read.fallbacks or read.speed or geo or any_tier or fast)
    if plain and not (read.context_management or read.compaction):
        return MessagesRequest(
            read.model,
            max_tokens,
            stream,
            added=added(read, tools),
            lacks_max_tokens=lacks,
            cache_writes=cache_writes,
            thinking_budget=budget,
            contents=contents,
        )
    theirs = read.their_fallbacks()
    named = {"max_tokens": max_tokens} | {
        f"fallbacks.{index}.max_tokens": each.max_tokens or 0 for index, each in enumerate(theirs)
    }
    longest = max(named, key=lambda member: named[member])
    return MessagesRequest(
        model=read.model,
        max_tokens=named[longest],
        stream=stream,
        fallbacks=tuple(dict.fromkeys(read.our_fallbacks())),
        extras=extras_of(read, tools, theirs, geo or "", thread=thread, any_tier=any_tier, fast=fast),
        added=added(read, tools),
        max_tokens_in=longest,
        lacks_max_tokens=lacks,
        cache_writes=cache_writes,
        thinking_budget=budget,
        contents=contents,
    )


def added(read: CountBody[Any], tools: list[Tool]) -> int:
    """Tokens that a provider adds to the prompt.

    Args:
        tools: those that add more to the prompt than their definitions in the request.
    """
    tokens = FOR_ANY
    if read.tools:
        tokens += FOR_TOOLS + FOR_EACH_TOOL * len(read.tools) + FOR_EACH_TOOL_OF_ITS_OWN * len(tools)
    if read.mcp_servers:
        tokens += FOR_TOOLS + FOR_EACH_TOOL_OF_ITS_OWN * len(read.mcp_servers)
    if read.output_format is not None or (read.output_config is not None and read.output_config.format is not None):
        tokens += FOR_A_FORMAT
    if read.thinking is not None:
        tokens += FOR_THINKING
    return tokens


def extras_of(
    read: CountBody[Any],
    tools: list[Tool],
    theirs: list[Fallback],
    geo: str,
    *,
    thread: bool,
    any_tier: bool,
    fast: bool,
) -> Extras:
    """What makes a request cost more than one reading of its prompt by its model."""
    by_default = read.fallbacks == "default"
    edits = (read.context_management.edits if read.context_management else None) or ()
    compacts = bool(read.compaction) or any(edit.type.startswith("compact_") for edit in edits)
    models = dict.fromkeys([*(each.model for each in theirs), *(model_of(tool) for tool in tools if tool.model)])
    models.pop("", None)
    if len(models) > MODELS or len(dict.fromkeys(read.our_fallbacks())) > MODELS:
        refuse(f"The request names more than {MODELS} models besides its own.")
    return Extras(
        models=tuple(models),
        default_fallbacks=by_default,
        fast=fast or FAST in (read.speed, *(each.speed for each in theirs)),
        inference_geo=geo,
        any_tier=any_tier,
        answers=len(theirs) + by_default,
        readings=len(theirs) + by_default + compacts,
        compacts=compacts,
        uses=(
            *all_uses(tools),
            *([Uses("mcp")] if read.mcp_servers else ()),
            *([Uses("thread", 1)] if thread else ()),
        ),
        server_urls=sum(server.type == "url" for server in read.mcp_servers or ()),
    )


def model_of(tool: Tool) -> str:
    """The model that one of the provider's tools runs, such as an advisor; empty: it names none.

    Raises:
        GatewayError: 400, a model can't have this name.
    """
    name = any_value.decode(tool.model)
    if not isinstance(name, str):
        return ""
    try:
        check_model("tools: model", name)
    except ValueError as error:
        refuse(str(error))
    resellers.check_models((name,))
    return name


def all_uses(tools: list[Tool]) -> list[Uses]:
    """The uses of all of a provider's own tools. Those without a limit share one loop, so equal ones count once.

    Raises:
        GatewayError: 400, they are too many: each is reckoned with before every call.
    """
    found = [each for tool in tools for each in uses(tool)]
    limited = [each for each in found if each.times is not None]
    unlimited = dict.fromkeys(each for each in found if each.times is None)
    if len(limited) + len(unlimited) > OWN_TOOLS:
        refuse(f"tools: More than {OWN_TOOLS} of them run at the provider")
    return [*limited, *unlimited]


def uses(tool: Tool) -> list[Uses]:
    """How often the provider may use one of its own tools within one call, and the tokens of each use."""
    written = "" if tool.type in (None, "custom") else str(tool.type).casefold()
    kind = next((kind for beginning, kind in LOOPS.items() if written.startswith(beginning)), None)
    if kind is None and (not written or written.startswith(NO_LOOPS)):
        # Code that the provider runs may call a tool of the client's own.
        return [Uses("code_execution")] if tool.allowed_callers else []
    if kind is None:
        # An unknown tool may run at the provider, too, and search.
        kind = "web_search" if "search" in written else "mcp"
    tokens = {"advisor": tool.max_tokens, "web_fetch": tool.max_content_tokens}.get(kind)
    # No provider documents that 0 means none.
    return [Uses(kind, count(tool.max_uses) or None, count(tokens), tool.response_inclusion == "excluded")]


def count(value: object) -> int | None:
    """A number in a tool's definition, limited to `MAX_TOKENS`; None for anything else."""
    return min(value, MAX_TOKENS) if type(value) is int and value >= 0 else None
