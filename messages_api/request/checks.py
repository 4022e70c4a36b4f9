"""Rules for a Messages request beyond the types in body.py, and the wording of errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from messages_api.request.blocks import CHECKED, PASSING, InnerBlock
from messages_api.request.body import CountBody, MessagesBody
from messages_api.request.plain import refuse

WHERE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
KINDS = re.compile(r"\b(str|int|float|bool)\b")
MISSING = re.compile(r"Object missing required field `(\w+)`")
OWN_WORDS = re.compile(r"([\w.]+): (.*)", re.DOTALL)

IN_JSON = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
# The expected values, by the end of the path. The message doesn't repeat the wrong value, which may be anything.
CHOICES = {
    "role": "'user', 'assistant' or 'system'",
    "cache_control.type": "'ephemeral'",
    "ttl": "'5m' or '1h'",
    "tool_choice.type": "'auto', 'any', 'tool' or 'none'",
    "fallbacks": "'default' or array",
}
INTERLEAVED = "interleaved-thinking-"
# Members that need a beta, and the beginning of that beta's name.
BETAS = {"mcp_servers": "mcp-client-", "output_format": "structured-outputs-"}

any_block = msgspec.json.Decoder(InnerBlock)
any_object = msgspec.json.Decoder(dict[str, Raw])
any_objects = msgspec.json.Decoder(list[dict[str, Raw]])
checked_blocks: dict[str, msgspec.json.Decoder[Any]] = {
    str(block.__struct_config__.tag): msgspec.json.Decoder(block) for block in CHECKED
}


def check_names(names: Iterable[str], known: frozenset[str], path: str = "") -> None:
    """Check that no member differs from a known one by case only: the gateway doesn't read it, but a provider may.

    Args:
        path: of the object, with a point at its end.

    Raises:
        GatewayError: 400, a member does.
    """
    if known.issuperset(names):
        return
    for name in names:
        # casefold() also maps the long s and the Kelvin sign to letters, as readers that ignore case do.
        if name not in known and (meant := name.casefold()) in known:
            refuse(f"{path}{meant}: Expected this name in lower case, not {name}")


def objects(name: str, value: Raw) -> Iterable[tuple[str, dict[str, Raw]]]:
    """The object that a member is, or those in its list, each with its path."""
    begin = memoryview(value)[0]
    if begin == ord("{"):
        return [(f"{name}.", any_object.decode(value))]
    if begin == ord("["):
        try:
            return [(f"{name}.{index}.", each) for index, each in enumerate(any_objects.decode(value))]
        except ValidationError:
            pass  # the gateway's own fallbacks are strings
    return []


def check_blocks(content: object, path: str) -> set[str]:
    """Check the known blocks of a content, and return the types of the others.

    Raises:
        GatewayError: 400, a block breaks a rule.
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
    """Check that a member that needs a beta comes with its header, if the request names any beta.

    A request without any beta is left to the provider: there are recorded requests of this kind that a provider has
    answered.

    Raises:
        GatewayError: 400, the header lacks the beta.
    """
    if not betas.strip():
        return
    for name, beta in BETAS.items():
        if getattr(read, name) and not any(value.strip().startswith(beta) for value in betas.split(",")):
            refuse(f"{name}: Requires the header anthropic-beta with a value {beta}<date>")


def check_thinking(read: CountBody[Any], betas: str) -> None:
    """Check that tokens are left for the answer after thinking. With tools, a model may think for longer.

    Raises:
        GatewayError: 400, no tokens are left.
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
    """An error of msgspec's in Anthropic's order: the field, then what was expected.

    Args:
        under: the path of the value that msgspec has read.
    """
    where = WHERE.search(error)
    path = ".".join(filter(None, (under, INDEX.sub(r".\1", where[1]) if where else ""))).lstrip(".")
    message = WHERE.sub("", error)
    if missing := MISSING.search(message):
        path, message = f"{path}.{missing[1]}".lstrip("."), "Field required"
    elif message.startswith("Invalid "):
        named = (choices for end, choices in CHOICES.items() if f".{path}".endswith(f".{end}"))
        message = f"Expected {next(named, 'another value')}"
    elif message.startswith("Expected `null`, got"):
        message = "Not allowed here"
    elif own := OWN_WORDS.match(message):
        path, message = f"{path}.{own[1]}".lstrip("."), own[2]
    else:
        message = KINDS.sub(lambda kind: IN_JSON[kind[0]], message.replace("`", "")).replace(" | ", " or ")
    return f"{path}: {message}" if path else message
