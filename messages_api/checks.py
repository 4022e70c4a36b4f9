"""What is known to be wrong with a Messages request, beyond the types in body.py, and how it is said to the caller. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from messages_api.body import CHECKED, PASSING, CountBody, InnerBlock, MessagesBody
from messages_api.plain import refuse

WHERE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
KINDS = re.compile(r"\b(str|int|float|bool)\b")
MISSING = re.compile(r"Object missing required field `(\w+)`")
OWN_WORDS = re.compile(r"([\w.]+): (.*)", re.DOTALL)

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

any_block = msgspec.json.Decoder(InnerBlock)
any_object = msgspec.json.Decoder(dict[str, Raw])
any_objects = msgspec.json.Decoder(list[dict[str, Raw]])
checked_blocks: dict[str, msgspec.json.Decoder[Any]] = {
    str(block.__struct_config__.tag): msgspec.json.Decoder(block) for block in CHECKED
}


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
