"""What a request says, in one spelling: what a request means is read from this, never from the caller's bytes.

JSON has many spellings: characters by their numbers, spaces, members in any order, 1e3 for 1000. Here each has one, but
for the order of members, which nothing may depend on. What goes to a provider stays as the caller wrote it. Pure.
"""

from __future__ import annotations

import re
import secrets
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import msgspec
import simdjson
from msgspec import UNSET, Raw, Struct, UnsetType

from messages_api.errors import invalid_request
from messages_api.splice import members_of

# A body has a few dozen members at the top, with names of a few letters.
MEMBERS = 1000
NAME = 200
# simdjson keeps buffers as large as the largest document that a parser has seen.
REUSE = 1 << 20
# Outside of ASCII there is only text, whose characters are of no interest to most readers: half the time goes without
# making them.
ASCII = bytes(range(128)) + b"\x7f" * 128

# simdjson writes a whole number with a fraction or an exponent so, up to 17 digits.
FRACTION = re.compile(rb"\.0(?:[,}\]]|\Z)")
# What is before that point, in a number that is no part of a string, mostly; and how many points are looked at.
BEFORE_POINT = re.compile(rb"(?:\A|[:,\[])-?[0-9]{1,17}\Z")
POINTS = 500
WHOLE = re.compile(rb"(?:-(?=0\.0(?![0-9])))|\.0(?![0-9e])")
# Integers beyond 64 bits are legal JSON, but not to simdjson: it reads them as strings that begin with a mark.
LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?[1-9][0-9]{18,}+(?=[ \t\n\r]*+(?:[,}\]]|\Z))")
MARK = secrets.token_hex(8).encode()
MARKED = re.compile(b'"' + MARK + b'(-?[0-9]+)"')
# What simdjson raises.
WRONG = (ValueError, RuntimeError, MemoryError)

_parser = simdjson.Parser()


class Plain(NamedTuple):
    """A request: its text and its members, and which of these have objects with other members than the usual ones."""

    text: bytes
    members: Mapping[str, Raw]
    unusual: Collection[str] = ()

    def has(self, word: bytes) -> bool:
        """Whether a string is in it, wherever that is: a member's name or a value."""
        # From the end, for what a search looks at first, a quote, is everywhere.
        return self.text.rfind(b'"%b"' % word) >= 0


def of(body: bytes) -> Plain:
    """What a body says.

    Raises:
        GatewayError: 400, it is no object in strict JSON, or has a member twice that we read.
    """
    text, marked = checked(body, mini=True)
    if has_fraction(text):
        text = b"{%b}" % b",".join(
            b"%b:%b" % (msgspec.json.encode(name), whole(bytes(value))) for name, value in split(text).items()
        )
    members = split(text)
    unusual = check_once(text, members)
    if marked:
        text = MARKED.sub(rb"\1", text)
        members = split(text)
    return Plain(text, members, unusual)


def ascii_only(text: bytes) -> bytes:
    """The same without characters beyond ASCII, as long as before."""
    return text if text.isascii() else text.translate(ASCII)


def split(text: bytes) -> dict[str, Raw]:
    """The members at the top."""
    try:
        return members_of.decode(text)
    except RecursionError:
        refuse("The request body is not valid JSON" + reason("DEPTH"))


# Strict JSON


def check(body: bytes) -> None:
    """Check that a body is an object in strict JSON, with no member twice at the top.

    Raises:
        GatewayError: 400, it isn't.
    """
    checked(body, mini=False)


def checked(body: bytes, *, mini: bool) -> tuple[bytes, bool]:
    """The body as simdjson writes it, if that is of interest, and whether numbers are marked in it.

    Raises:
        GatewayError: 400, it is no object in strict JSON, or has a member twice at the top.
    """
    if body.startswith(BOM_UTF8):
        refuse("The request body is not valid JSON: it begins with a byte order mark.")
    parser = _parser if len(body) < REUSE else simdjson.Parser()
    try:
        return parsed(parser, body, mini=mini), False
    except WRONG as error:
        if "NUMBER" not in str(error) and "BIGINT" not in str(error):
            refuse("The request body is not valid JSON" + reason(str(error)))
    marked = outside_strings(LONG_NUMBER, b'"' + MARK + rb'\g<0>"', body)
    try:
        return parsed(parser, marked, mini=mini), True
    except WRONG as error:
        refuse("The request body is not valid JSON" + reason(str(error)))


def parsed(parser: simdjson.Parser, body: bytes, *, mini: bool) -> bytes:
    """The same for a body without such numbers.

    Raises:
        ValueError, RuntimeError, MemoryError: it is no JSON.
        GatewayError: as `checked`.
    """
    try:
        document = parser.parse(body)
    except UnicodeDecodeError:
        refuse("The request body is not valid JSON: it is not UTF-8.")
    try:
        if not isinstance(document, simdjson.Object):
            refuse("The request body must be a JSON object.")
        if len(document) > MEMBERS:
            refuse(f"The request body has more than {MEMBERS} members.")
        names = list(document.keys())
        text: Any = document.mini if mini else b""  # bytes, whatever the stubs say
    finally:
        # A traceback would keep it alive, and a parser can't be used again as long as it is.
        del document
    if any(len(name) > NAME for name in names):
        refuse(f"The request body has a member whose name is longer than {NAME} characters.")
    if len(set(names)) != len(names):
        twice(next(name for name in names if names.count(name) > 1))
    return text  # type: ignore[no-any-return]


# No member twice


class Mark(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A `cache_control`. It and the structs below are to be read and written again: what comes out is as long as what
    went in, unless a member was there twice."""

    type: Raw | UnsetType = UNSET
    ttl: Raw | UnsetType = UNSET


class Source(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a picture or a document is made of."""

    type: Raw | UnsetType = UNSET
    media_type: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    url: Raw | UnsetType = UNSET
    file_id: Raw | UnsetType = UNSET


class Part(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False, tag_field="type"):
    """A block of one of the usual types."""

    cache_control: Mark | UnsetType | None = UNSET


class Text(Part, tag="text"):
    text: Raw | UnsetType = UNSET


class Image(Part, tag="image"):
    source: Source | UnsetType = UNSET


class Document(Part, tag="document"):
    source: Source | UnsetType = UNSET
    title: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET


class Thinking(Part, tag="thinking"):
    thinking: Raw | UnsetType = UNSET
    signature: Raw | UnsetType = UNSET


class RedactedThinking(Part, tag="redacted_thinking"):
    data: Raw | UnsetType = UNSET


class ToolUse(Part, tag="tool_use"):
    id: Raw | UnsetType = UNSET
    name: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    caller: Raw | UnsetType = UNSET


class ToolResult(Part, tag="tool_result"):
    tool_use_id: Raw | UnsetType = UNSET
    content: str | list[Text | Image | Document] | UnsetType | None = UNSET
    is_error: Raw | UnsetType = UNSET


class Turn(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A turn of a conversation."""

    role: Raw | UnsetType = UNSET
    content: str | list[Text | Image | Document | Thinking | RedactedThinking | ToolUse | ToolResult] | UnsetType = (
        UNSET
    )


class Tool(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A tool of the client's."""

    type: Raw | UnsetType = UNSET
    name: Raw | UnsetType = UNSET
    description: Raw | UnsetType = UNSET
    input_schema: Raw | UnsetType = UNSET
    cache_control: Mark | UnsetType | None = UNSET
    strict: Raw | UnsetType = UNSET


USUAL: dict[str, msgspec.json.Decoder[Any]] = {
    "messages": msgspec.json.Decoder(list[Turn]),
    "system": msgspec.json.Decoder(list[Text]),
    "tools": msgspec.json.Decoder(list[Tool]),
}
anything = msgspec.json.Decoder(float_hook=lambda written: Raw(written.encode()))
encoder = msgspec.json.Encoder()


def check_once(text: bytes, members: Mapping[str, Raw]) -> list[str]:
    """Check that no object in a plain text has a member twice; of objects that only a model reads (what a tool takes),
    that may be left out. Which members have objects that aren't as usual.

    Raises:
        GatewayError: 400, one has.
    """
    # Names that differ in nothing but characters beyond ASCII seem to be the same without them.
    for name, value in (members if text.isascii() else split(ascii_only(text))).items():
        if memoryview(value)[0] in b"[{" and not (name in USUAL and seems_once(USUAL[name], value)):
            break
    else:
        return []
    unusual = []
    for name, value in members.items():
        if memoryview(value)[0] not in b"[{" or (name in USUAL and seems_once(USUAL[name], value)):
            continue
        if not is_once(value):
            twice(name, "has an object with a member twice")
        unusual.append(name)
    return unusual


def seems_once(usual: msgspec.json.Decoder[Any], value: Raw) -> bool:
    """Whether no object in it has a member twice; False where that isn't seen at once."""
    try:
        return len(encoder.encode(usual.decode(value))) == len(memoryview(value))
    except (ValueError, RecursionError):
        return False


def is_once(value: Raw) -> bool:
    try:
        return len(encoder.encode(anything.decode(value))) == len(memoryview(value))
    except RecursionError:
        refuse("The request body is not valid JSON" + reason("DEPTH"))


def twice(name: str, what: str = "the request body has this member twice") -> NoReturn:
    refuse(f"{name[:60]}: {what}")


# Numbers


def whole(value: bytes) -> bytes:
    """The same with numbers that have nothing behind the point as integers."""
    return outside_strings(WHOLE, b"", value) if has_fraction(value) else value


def has_fraction(text: bytes) -> bool:
    """Whether there may be such a number in a text, outside of its strings."""
    points = islice(FRACTION.finditer(text), POINTS + 1)
    return any(
        index == POINTS or BEFORE_POINT.search(text[max(0, point.start() - 20) : point.start()])
        for index, point in enumerate(points)
    )


def outside_strings(pattern: re.Pattern[bytes], instead: bytes, text: bytes) -> bytes:
    """The same with what a pattern finds between the strings of a JSON text replaced."""
    if b'"' not in text:
        return pattern.sub(instead, text)
    # Quotes within strings go, and nothing else changes its place.
    masked = text.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')
    if not pattern.search(b'"'.join(masked[::2])):
        return text
    parts, at, kept = list[bytes](), 0, 0
    for index, part in enumerate(masked):
        if not index % 2 and pattern.search(part):
            parts += (text[kept:at], pattern.sub(instead, part))
            kept = at + len(part)
        at += len(part) + 1
    return b"".join((*parts, text[kept:]))


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
    raise invalid_request(message)
