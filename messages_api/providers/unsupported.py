"""Betas and members that clients send by default and that a cloud refuses: the gateway removes them from the request.

The list has what each cloud has refused, with the source. Everything else passes, and the cloud decides about it.
Nothing in the list changes an answer in a way that a client would miss. docs/providers.md shows the list (a test
compares them).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from messages_api.json_text import byte_edits, positions
from messages_api.json_text.byte_edits import Edit
from messages_api.json_text.positions import ESCAPED

# Members of a body that may name betas: Bedrock's, and that of the SDKs.
IN_BODY = ("anthropic_beta", "betas")
# The date at the end of a beta's name.
DATE = re.compile(r"-?\d{4}-?\d{2}-?\d{2}$")


class Left(NamedTuple):
    """Something that a cloud refuses, with the source and the date. `unless`: betas with which it is accepted."""

    cloud: str
    name: str
    source: str
    seen: str
    unless: tuple[str, ...] = ()


_PROXY = "https://github.com/router-for-me/CLIProxyAPI/issues/4750"
_CONNECTOR = "https://github.com/aws-samples/sample-connector-for-bedrock/pull/123"
_LITELLM = "https://github.com/BerriAI/litellm/blob/030dd40/litellm/anthropic_beta_headers_config.json"
_CODE = "https://github.com/anthropics/claude-code/issues/"
_FAST = "https://platform.claude.com/docs/en/build-with-claude/fast-mode"
_SERVERS = "https://github.com/BerriAI/litellm/pull/19875"
_EFFORT = "https://github.com/can1357/oh-my-pi/issues/5614"

# Betas, by their names without dates.
BETAS = (
    Left("bedrock", "advanced-tool-use", _CODE + "30926", "2026-03-05"),
    Left("bedrock", "advisor-tool", _CONNECTOR, "2026-05-05"),
    Left("bedrock", "code-execution", _LITELLM, "2026-11-29"),
    Left("bedrock", "extended-cache-ttl", _CODE + "56595", "2026-05-06"),
    Left("bedrock", "fast-mode", _PROXY, "2026-08-03"),
    Left("bedrock", "files-api", _CONNECTOR, "2026-05-05"),
    Left("bedrock", "mcp-client", _LITELLM, "2026-11-29"),
    Left("bedrock", "mcp-servers", _SERVERS, "2026-01-27"),
    Left("bedrock", "oauth", _PROXY, "2026-08-03"),
    Left("bedrock", "prompt-caching-scope", _PROXY, "2026-08-03"),
    Left("bedrock", "redact-thinking", _PROXY, "2026-08-03"),
    Left("bedrock", "skills", _LITELLM, "2026-11-29"),
    Left("bedrock", "token-efficient-tools", _PROXY, "2026-08-03"),
    Left("bedrock", "web-fetch", _LITELLM, "2026-11-29"),
    Left("bedrock", "web-search", _LITELLM, "2026-11-29"),
    Left("vertex", "adaptive-thinking", _CODE + "34802", "2026-03-16"),
    Left("vertex", "advanced-tool-use", _LITELLM, "2026-11-29"),
    Left("vertex", "advisor-tool", _LITELLM, "2026-11-29"),
    Left("vertex", "code-execution", _LITELLM, "2026-11-29"),
    Left("vertex", "effort", _EFFORT, "2026-07-15"),
    Left("vertex", "fast-mode", _LITELLM, "2026-11-29"),
    Left("vertex", "files-api", _LITELLM, "2026-11-29"),
    Left("vertex", "fine-grained-tool-streaming", _LITELLM, "2026-11-29"),
    Left("vertex", "mcp-client", _LITELLM, "2026-11-29"),
    Left("vertex", "mcp-servers", _LITELLM, "2026-11-29"),
    Left("vertex", "oauth", _LITELLM, "2026-11-29"),
    Left("vertex", "prompt-caching", "https://github.com/zed-industries/zed/issues/42715", "2025-11-14"),
    Left("vertex", "prompt-caching-scope", _CODE + "21625", "2026-01-29"),
    Left("vertex", "redact-thinking", "https://github.com/anthropics/anthropic-sdk-typescript/pull/1089", "2026-06-12"),
    Left("vertex", "skills", _LITELLM, "2026-11-29"),
    Left("vertex", "structured-outputs", "https://github.com/QuantumNous/new-api/issues/2975", "2026-02-20"),
    Left("vertex", "token-efficient-tools", _LITELLM, "2026-11-29"),
    Left("vertex", "web-fetch", _LITELLM, "2026-11-29"),
    Left("azure", "advisor-tool", _LITELLM, "2026-11-29"),
    Left("azure", "fast-mode", _LITELLM, "2026-11-29"),
    Left("azure", "oauth", _LITELLM, "2026-11-29"),
)
# Members, by their paths: `[]` is each element, `**` any object but the input of a tool and its schema.
MEMBERS = (
    Left("bedrock", "**.cache_control.scope", "https://github.com/BerriAI/litellm/pull/23523", "2026-03-13"),
    Left("bedrock", "tools[].defer_loading", _CODE + "82549", "2026-07-30", ("tool-search-tool",)),
    Left("bedrock", "tools[].eager_input_streaming", _CODE + "63532", "2026-05-29"),
    Left("bedrock", "context_management", _CODE + "49548", "2026-04-16", ("context-management", "compact")),
    Left("bedrock", "speed", _FAST, "2026-11-30"),
    Left("vertex", "**.cache_control.scope", _CODE + "21625", "2026-01-29"),
    Left("vertex", "tools[].defer_loading", _CODE + "31033", "2026-03-05", ("tool-search-tool",)),
    Left("vertex", "tools[].eager_input_streaming", _CODE + "63532", "2026-05-29"),
    Left("vertex", "diagnostics", _CODE + "82539", "2026-07-30"),
    Left("vertex", "context_management", _CODE + "39589", "2026-03-26", ("context-management", "compact")),
    # Fast mode is a model of its own there.
    Left("azure", "speed", _FAST, "2026-11-30"),
)
TOOLS = "tools[]."
# Members whose objects may have any form.
OTHERS = frozenset(("input", "input_schema", "input_examples", "schema"))


def betas(cloud: str, given: Iterable[str]) -> list[str]:
    """The betas without those that a cloud refuses and without duplicates, in order."""
    left = {one.name for one in BETAS if one.cloud == cloud}
    return [beta for beta in dict.fromkeys(map(str.strip, given)) if beta and named(beta) not in left]


def named(beta: str) -> str:
    """A beta's name without its date."""
    return DATE.sub("", beta)


def without(cloud: str, body: bytes, betas: Collection[str]) -> bytes:
    """A checked request without the members that a cloud refuses. Every other byte stays unchanged.

    Args:
        betas: those of the request.
    """
    given = {named(beta) for beta in betas}
    left = [one.name for one in MEMBERS if one.cloud == cloud and given.isdisjoint(one.unless)]
    return byte_edits.apply(body, sorted(edits(body, left)))


def edits(body: bytes, left: Collection[str]) -> Iterator[Edit]:
    """The edits that remove the members at these paths from a request, in any order."""
    words = [path.rpartition(".")[2].encode() for path in left]
    if not may_have(body, words):
        return
    nested = {tuple(path.split(".")[1:]) for path in left if path.startswith("**.")}
    of_tools = {path.removeprefix(TOOLS) for path in left if path.startswith(TOOLS)}
    found = list(byte_edits.places(body, byte_edits.members_of.decode(body)))
    out = {index for index, (name, _) in enumerate(found) if name in left}
    yield from byte_edits.dropped(
        [(byte_edits.after_space(body, place.begin), place.value_end) for _, place in found], out
    )
    for index, (name, place) in enumerate(found):
        if index in out or name in OTHERS:
            continue
        if not may_have(body, words, place.value, place.value_end):
            continue
        for begin, end in list(byte_edits.elements(body, name)) or [(place.value, place.value_end)]:
            if may_have(body, words, begin, end):
                members = of_tools if name == "tools" else ()
                yield from edits_within(body[begin:end].decode("latin-1"), begin, name, members, nested)


def may_have(body: bytes, words: Iterable[bytes], begin: int = 0, end: int = sys.maxsize) -> bool:
    """Whether a part of a request may have members of these names, escaped or not."""
    return any(body.rfind(word, begin, end) >= 0 for word in words) or (
        body.rfind(b"\\u00", begin, end) >= 0 and ESCAPED.search(body, begin, end) is not None
    )


def edits_within(
    text: str, at: int, name: str, left: Collection[str], nested: Collection[tuple[str, ...]]
) -> Iterator[Edit]:
    """The edits within an element, or a member of this name.

    Args:
        at: the position of the text in the body.
        left: names of members to remove from the object itself.
        nested: pairs of a member and a member in it, to remove at any depth.
    """
    try:
        found = list(_walk(text, 0, name, left, nested))
    except RecursionError:  # nested deeper than Python reads
        return
    for begin, end, _ in found:
        yield Edit(at + begin, at + end)


def _walk(text: str, at: int, name: str, left: Collection[str], nested: Collection[tuple[str, ...]]) -> Iterator[Edit]:
    if text[at] == "{":
        parts = positions.members(text, at)
        unwanted = {*left, *(member for parent, member in nested if parent == name)}
        out = {index for index, part in enumerate(parts) if part.name in unwanted}
        yield from byte_edits.dropped([(part.begin, part.end) for part in parts], out)
    else:
        parts, out = positions.elements(text, at) if text[at] == "[" else [], set()
    for index, part in enumerate(parts):
        if index not in out and part.name not in OTHERS and isinstance(part.value, (dict, list)):
            yield from _walk(text, part.at, part.name or name, (), nested)


def named_betas(header: list[str], members: Mapping[str, msgspec.Raw]) -> list[str]:
    """The betas in the header and the body of a request, without duplicates."""
    named = list(header)
    for name in IN_BODY:
        if name in members:
            try:
                named += msgspec.json.decode(members[name], type=list[str])
            except msgspec.ValidationError:
                continue
    return list(dict.fromkeys(named))
