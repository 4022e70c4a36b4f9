"""What a Messages request must be for us to act on it; everything that we don't know passes through untouched.

Two readings of the body. The first checks that it is strict JSON (UTF-8, no NaN, bounded depth, no member twice that we
read), since a provider may read a doubtful body differently from us, and brings it into one spelling (plain.py). The
second reads that by the types in body.py: a check for what is known to be wrong, never an allow-list.
docs/validation.md lists every rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, Raw, ValidationError

from messages_api import plain, tool_additions
from messages_api.blocks import CHECKED, PASSING, CacheControl, InnerBlock, blocks
from messages_api.body import (
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
from messages_api.cache_writes import CacheWrites, asked_for
from messages_api.estimates import (
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
from messages_api.plain import Plain, ascii_only, refuse

# Each is priced before the call.
MODELS = 20

WHERE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
KINDS = re.compile(r"\b(str|int|float|bool)\b")
MISSING = re.compile(r"Object missing required field `(\w+)`")
OWN_WORDS = re.compile(r"([\w.]+): (.*)", re.DOTALL)
UNKNOWN_TYPE = re.compile(r"^Invalid value .*\.type`$", re.DOTALL)

IN_JSON = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
# What stands for a value that is none of those that are known: the value itself may be anything.
CHOICES = {
    "role": "'user', 'assistant' or 'system'",
    "cache_control.type": "'ephemeral'",
    "ttl": "'5m' or '1h'",
    "tool_choice.type": "'auto', 'any', 'tool' or 'none'",
    "fallbacks": "'default' or array",
}
INTERLEAVED = "interleaved-thinking-"
# Members that a provider only knows with a beta, and how the names of its versions begin.
BETAS = {"mcp_servers": "mcp-client-", "output_format": "structured-outputs-"}

# Tools that run in a provider's loop, by how their types begin.
LOOPS = {
    "web_search_": "web_search",
    "web_fetch_": "web_fetch",
    "code_execution_": "code_execution",
    "tool_search_tool_": "tool_search",
    "advisor_": "advisor",
}

# Members that are known, and those of the objects in them by which money is counted.
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

any_block = msgspec.json.Decoder(InnerBlock)
any_object = msgspec.json.Decoder(dict[str, Raw])
any_objects = msgspec.json.Decoder(list[dict[str, Raw]])
checked_blocks: dict[str, msgspec.json.Decoder[Any]] = {
    str(block.__struct_config__.tag): msgspec.json.Decoder(block) for block in CHECKED
}
any_tool = msgspec.json.Decoder(Tool)
any_value = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What decides how a request is routed, held and answered.

    `max_tokens` are the most that any attempt at it may write, and `max_tokens_in` is the member that says so;
    `lacks_max_tokens`: it names none for its own model. `fallbacks` are ours: models, each with or without its
    provider, in order. `added` are tokens that the provider adds to the prompt. `cache_writes` says for how
    long the request asks for these, `thinking_budget` how many tokens it may think, `contents` what there is to read.
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


class Reader:
    """Reads one kind of request.

    A union of msgspec's is closed, so a body with a block of a type that isn't named in it is read again, block by
    block; what types those were is learnt, so that this happens once and not with each.
    """

    # Enough for what a few releases of clients bring; whoever makes types up only takes away the others' haste.
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
            ValidationError: something is known to be wrong.
            GatewayError: 400, likewise, in a block that was read by itself.
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
        """Read blocks of these types, of which nothing is known to be wrong, at once from now on."""
        if types and len(self.learnt | types) <= self.LEARNT:
            self.learnt |= types
            self.quick = msgspec.json.Decoder(self.body[blocks(*self.learnt)])


readers = {False: Reader(MessagesBody, OpenMessagesBody), True: Reader(CountBody, OpenCountBody)}


def parse(
    body: bytes, *, betas: str | None = "", counting: bool = False, may_lack_max_tokens: bool = False
) -> MessagesRequest:
    """Read a Messages request, or one to count its tokens.

    Args:
        betas: the values of `anthropic-beta`, separated by commas; None: they aren't known here.
        may_lack_max_tokens: whoever calls this knows what then holds (max_tokens.py).

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    return read(plain.of(body), betas=betas, counting=counting, may_lack_max_tokens=may_lack_max_tokens)


def read(
    said: Plain, *, betas: str | None = "", counting: bool = False, may_lack_max_tokens: bool = False
) -> MessagesRequest:
    """The same for one in its plain spelling."""
    check_names(said.members, KNOWN)
    if "models" in said.members:
        # OpenRouter's fallbacks: models that no list of denied models and no price would know of.
        refuse("models: Not allowed here: name other models in fallbacks")
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
    return in_short(read, "5m" if counting else asked_for(read), contents(said))


def check_names(names: Iterable[str], known: frozenset[str], path: str = "") -> None:
    """Check that no member differs from a known one by nothing but case: we don't read it, but a provider may.

    Args:
        path: of the object, with a point at its end.

    Raises:
        GatewayError: 400, one does.
    """
    if known.issuperset(names):
        return
    for name in names:
        # So that the long s and the sign of Kelvin are letters, too, as they are to readers that ignore case.
        if name not in known and (meant := name.casefold()) in known:
            refuse(f"{path}{meant}: Expected this name in lower case, not {name}")


def objects(name: str, value: Raw) -> Iterable[tuple[str, dict[str, Raw]]]:
    """The objects that a member is or has, each with its path."""
    begin = memoryview(value)[0]
    if begin == ord("{"):
        return [(f"{name}.", any_object.decode(value))]
    if begin == ord("["):
        try:
            return [(f"{name}.{index}.", each) for index, each in enumerate(any_objects.decode(value))]
        except ValidationError:
            pass  # fallbacks of ours are strings
    return []


def tools_in_turns(said: Plain) -> list[Tool]:
    """The tools that a request defines outside of its `tools`: they do the same and cost the same.

    Raises:
        GatewayError: 400, something is known to be wrong about one.
        RecursionError: it is nested too deep.
    """
    tools = []
    for definition, path in tool_additions.definitions(said).items():
        try:
            tools.append(any_tool.decode(ascii_only(definition)))
        except ValidationError as error:
            refuse(in_words(str(error), path))
    return tools


def in_short(read: CountBody[Any], cache_writes: CacheWrites, contents: Contents) -> MessagesRequest:
    """What the rest of the gateway needs to know of a request."""
    max_tokens, stream, geo, lacks, any_tier = 0, False, None, False, False
    if isinstance(read, MessagesBody):
        any_tier = read.service_tier == "auto"
        stream, geo, lacks = bool(read.stream), read.inference_geo, read.max_tokens is UNSET
        max_tokens = read.max_tokens or 0
    budget = read.thinking.budget_tokens if read.thinking is not None else 0
    budget = max(0, budget) if isinstance(budget, int) else 0  # of a kind that isn't known, it may be anything
    thread = isinstance(read, MessagesBody) and read.thread is not None
    tools = [tool for tool in read.tools or () if tool.type not in (None, "custom") or tool.allowed_callers]
    plain = not (tools or read.mcp_servers or thread or read.fallbacks or read.speed or geo or any_tier)
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
        fallbacks=tuple(read.our_fallbacks()),
        extras=extras_of(read, tools, theirs, geo or "", thread=thread, any_tier=any_tier),
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
        tools: those that bring more than what the request says of them.
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
    read: CountBody[Any], tools: list[Tool], theirs: list[Fallback], geo: str, *, thread: bool, any_tier: bool
) -> Extras:
    """What makes a request dearer than one reading of its prompt by its model."""
    by_default = read.fallbacks == "default"
    edits = (read.context_management.edits if read.context_management else None) or ()
    compacts = bool(read.compaction) or any(edit.type.startswith("compact_") for edit in edits)
    models = dict.fromkeys([*(each.model for each in theirs), *(model_of(tool) for tool in tools if tool.model)])
    models.pop("", None)
    if len(models) > MODELS:
        refuse(f"The request names more than {MODELS} models besides its own.")
    return Extras(
        models=tuple(models),
        default_fallbacks=by_default,
        fast="fast" in (read.speed, *(each.speed for each in theirs)),
        inference_geo=geo,
        any_tier=any_tier,
        answers=len(theirs) + by_default,
        readings=len(theirs) + by_default + compacts,
        uses=(
            *(each for tool in tools for each in uses(tool)),
            *(Uses("mcp") for _ in read.mcp_servers or ()),
            *([Uses("thread", 1)] if thread else ()),
        ),
    )


def model_of(tool: Tool) -> str:
    """The model that a tool of the provider's runs, as an advisor's does; empty where it names none.

    Raises:
        GatewayError: 400, it is a name that can't be a model's.
    """
    name = any_value.decode(tool.model)
    if not isinstance(name, str):
        return ""
    try:
        check_model("tools: model", name)
    except ValueError as error:
        refuse(str(error))
    return name


def uses(tool: Tool) -> list[Uses]:
    """How often the provider may use a tool of its own within one call, and what that may come to."""
    kind = next((kind for prefix, kind in LOOPS.items() if str(tool.type).startswith(prefix)), None)
    if kind is None:
        # One of the caller's own may be called by code that the provider runs.
        return [Uses("code_execution")] if tool.allowed_callers else []
    tokens = {"advisor": tool.max_tokens, "web_fetch": tool.max_content_tokens}.get(kind)
    return [Uses(kind, count(tool.max_uses), count(tokens))]


def count(value: object) -> int | None:
    """What a tool says of itself, as far as it is a number; no larger than can be held."""
    return min(value, MAX_TOKENS) if type(value) is int and value >= 0 else None


def check_blocks(content: object, path: str) -> set[str]:
    """Check the blocks that we know among others; the types of the others.

    Raises:
        GatewayError: 400, something is known to be wrong.
    """
    unknown = set()
    for index, block in enumerate(content if isinstance(content, list) else ()):
        try:
            kind = any_block.decode(block).type
            known = checked_blocks.get(kind)
            if known is not None:
                known.decode(block)
            elif kind not in PASSING:
                unknown.add(kind)
        except ValidationError as error:
            refuse(in_words(str(error), f"{path}.{index}"))
    return unknown


def check_betas(read: CountBody[Any], betas: str) -> None:
    """Check that what only a beta knows comes with its header, where any beta is named. A request that names none is
    left to the provider, for recorded requests of clients that it has answered are like that.

    Raises:
        GatewayError: 400, it doesn't.
    """
    if not betas.strip():
        return
    for name, beta in BETAS.items():
        if getattr(read, name) and not any(value.strip().startswith(beta) for value in betas.split(",")):
            refuse(f"{name}: Requires the header anthropic-beta with a value {beta}<date>")


def check_thinking(read: CountBody[Any], betas: str) -> None:
    """Check that something is left to say after thinking; between uses of tools, a model may think for longer.

    Raises:
        GatewayError: 400, it isn't.
    """
    thinking = read.thinking
    if (
        isinstance(read, MessagesBody)
        and thinking is not None
        and thinking.type == "enabled"
        and 0 < (read.max_tokens or 0) <= thinking.budget_tokens
        and not (read.tools or read.mcp_servers or read.thread is not None or INTERLEAVED in betas)
    ):
        refuse("thinking.budget_tokens: Expected less than max_tokens")


def in_words(error: str, under: str = "") -> str:
    """msgspec's words in Anthropic's order: the field, then what was expected.

    Args:
        under: the path of what was read.
    """
    where = WHERE.search(error)
    path = ".".join(filter(None, (under, INDEX.sub(r".\1", where[1]) if where else ""))).lstrip(".")
    said = WHERE.sub("", error)
    if missing := MISSING.search(said):
        path, said = f"{path}.{missing[1]}".lstrip("."), "Field required"
    elif said.startswith("Invalid "):
        named = (choices for end, choices in CHOICES.items() if f".{path}".endswith(f".{end}"))
        said = f"Expected {next(named, 'another value')}"
    elif said.startswith("Expected `null`, got"):
        said = "Not allowed here"
    elif own := OWN_WORDS.match(said):
        path, said = f"{path}.{own[1]}".lstrip("."), own[2]
    else:
        said = KINDS.sub(lambda kind: IN_JSON[kind[0]], said.replace("`", "")).replace(" | ", " or ")
    return f"{path}: {said}" if path else said
