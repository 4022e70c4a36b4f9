"""What a Messages request must be for us to act on it; everything that we don't know passes through untouched.

Two readings of the body. The first checks that it is strict JSON (UTF-8, no NaN, bounded depth, no member twice at the
top), since a provider may read a doubtful body differently from us. The second reads it by the types in body.py: a
check for what is known to be wrong, never an allow-list. docs/validation.md lists every rule.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec
import simdjson
from msgspec import ValidationError

from messages_api.body import CHECKED, CountBody, InnerBlock, MessagesBody, OpenCountBody, OpenMessagesBody
from messages_api.errors import GatewayError, invalid_request

# A body has a few dozen members at the top.
MEMBERS = 1000
LONG_NUMBER = re.compile(rb"[0-9]{19,}")
# simdjson keeps buffers as large as the largest document that a parser has seen.
REUSE = 1 << 20
# Outside of ASCII there is only text, whose characters nobody here reads: half the time goes without making them.
ASCII = bytes(range(128)) + b"\x7f" * 128

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
# Members that a provider only knows with a beta, and how the names of its versions begin.
BETAS = {"mcp_servers": "mcp-client-", "output_format": "structured-outputs-"}

# Each kind of request twice: with the blocks that we know, which is quick, and with any.
messages_body = msgspec.json.Decoder(MessagesBody)
open_messages_body = msgspec.json.Decoder(OpenMessagesBody)
count_body = msgspec.json.Decoder(CountBody)
open_count_body = msgspec.json.Decoder(OpenCountBody)
any_block = msgspec.json.Decoder(InnerBlock)
checked_blocks: dict[str, msgspec.json.Decoder[Any]] = {
    str(block.__struct_config__.tag): msgspec.json.Decoder(block) for block in CHECKED
}

_parser = simdjson.Parser()


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What decides how a request is routed, held and answered."""

    model: str
    max_tokens: int
    stream: bool


def parse(body: bytes, *, betas: str = "", counting: bool = False) -> MessagesRequest:
    """Read a Messages request, or one to count its tokens.

    Args:
        betas: the values of `anthropic-beta`, separated by commas.

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    check_json(body)
    try:
        read = read_body(body if body.isascii() else body.translate(ASCII), counting)
    except ValidationError as error:
        refuse(in_words(str(error)))
    except (ValueError, RecursionError):
        refuse("The request body is not valid JSON.")
    check_betas(read, betas)
    if isinstance(read, MessagesBody):
        return MessagesRequest(read.model, read.max_tokens, bool(read.stream))
    return MessagesRequest(read.model, 0, False)


def read_body(body: bytes, counting: bool) -> CountBody:
    """The body by its types; one with a block that we don't know is read again, block by block.

    Raises:
        ValidationError: something is known to be wrong.
    """
    try:
        return (count_body if counting else messages_body).decode(body)
    except ValidationError as error:
        if not UNKNOWN_TYPE.match(str(error)):
            raise
    read: CountBody = (open_count_body if counting else open_messages_body).decode(body)
    check_blocks(read.system, "system")
    for index, message in enumerate(read.messages):
        check_blocks(message.content, f"messages.{index}.content")
    return read


def check_blocks(content: object, path: str) -> None:
    """Check the blocks that we know among others.

    Raises:
        GatewayError: 400, something is known to be wrong.
    """
    for index, block in enumerate(content if isinstance(content, list) else ()):
        try:
            known = checked_blocks.get(any_block.decode(block).type)
            if known is not None:
                known.decode(block)
        except ValidationError as error:
            refuse(in_words(str(error), f"{path}.{index}"))


def check_betas(read: CountBody, betas: str) -> None:
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


def check_json(body: bytes) -> None:
    """Check that the body is an object in strict JSON, with no member twice.

    Raises:
        GatewayError: 400, it isn't.
    """
    global _parser
    if body.startswith(BOM_UTF8):
        refuse("The request body is not valid JSON: it begins with a byte order mark.")
    parser = _parser if len(body) < REUSE else simdjson.Parser()
    try:
        names = member_names(parser, body)
    except GatewayError:
        # The traceback keeps the document alive, and a parser can't be used again as long as one is.
        _parser = simdjson.Parser()
        raise
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        refuse(f"{twice[:60]}: the request body has this member twice")


def member_names(parser: simdjson.Parser, body: bytes, *, shorten: bool = True) -> list[str]:
    try:
        document = parser.parse(body)
    except UnicodeDecodeError:
        refuse("The request body is not valid JSON: it is not UTF-8.")
    except (ValueError, RuntimeError, MemoryError) as error:
        if shorten and ("NUMBER" in str(error) or "BIGINT" in str(error)):
            # Integers beyond 64 bits are legal JSON, but not to this parser: here, they may stand for any other.
            return member_names(parser, LONG_NUMBER.sub(b"1", body), shorten=False)
        refuse("The request body is not valid JSON" + reason(str(error)))
    if not isinstance(document, simdjson.Object):
        refuse("The request body must be a JSON object.")
    if len(document) > MEMBERS:
        refuse(f"The request body has more than {MEMBERS} members.")
    return list(document.keys())


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
    elif own := OWN_WORDS.match(said):
        path, said = f"{path}.{own[1]}".lstrip("."), own[2]
    else:
        said = KINDS.sub(lambda kind: IN_JSON[kind[0]], said.replace("`", "")).replace(" | ", " or ")
    return f"{path}: {said}" if path else said


def reason(error: str) -> str:
    """What simdjson found wrong, in words."""
    for sign, words in (
        ("DEPTH", ": it is nested too deep."),
        ("UNESCAPED", ": a string contains a raw control character."),
        ("STRING", ": a string contains an invalid escape."),
        ("UTF8", ": it is not UTF-8."),
        ("EMPTY", ": it is empty."),
        ("NUMBER", ": a number is out of range."),
        ("BIGINT", ": a number is out of range."),
    ):
        if sign in error:
            return words
    return "."


def refuse(message: str) -> NoReturn:
    error: GatewayError = invalid_request(message)
    raise error
