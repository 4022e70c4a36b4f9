"""What a request says, in one spelling: what a request means is read from this, never from the caller's bytes.

JSON has many spellings: characters by their numbers, spaces, members in any order, 1e3 for 1000. Here each has one, but
for the order of members, which nothing may depend on. What goes to a provider stays as the caller wrote it. Pure.
"""

from __future__ import annotations

import re
import secrets
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

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

# What some reader looks for in a request, wherever it is.
WORDS = re.compile(rb'"(base64|cache_control|container|file_id|redacted_thinking|signature|url|1h)"')
# simdjson writes a whole number with a fraction or an exponent so, up to 17 digits.
FRACTION = re.compile(rb"\.0(?:[,}\]]|\Z)")
WHOLE = re.compile(rb"(?:-(?=0\.0(?![0-9])))|\.0(?![0-9e])")
# Integers beyond 64 bits are legal JSON, but not to simdjson: it reads them as strings that begin with a mark.
LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?[1-9][0-9]{18,}+(?=[ \t\n\r]*+(?:[,}\]]|\Z))")
MARK = secrets.token_hex(8).encode()
MARKED = re.compile(b'"' + MARK + b'(-?[0-9]+)"')
# What simdjson raises.
WRONG = (ValueError, RuntimeError, MemoryError)

_parser = simdjson.Parser()


class Plain(NamedTuple):
    """A request: its text, its members, and those of `WORDS` that are in it."""

    text: bytes
    members: Mapping[str, Raw]
    words: frozenset[bytes]


def of(body: bytes) -> Plain:
    """What a body says.

    Raises:
        GatewayError: 400, it is no object in strict JSON, or has a member twice that we read.
    """
    text, marked = checked(body, mini=True)
    if FRACTION.search(text):
        text = b"{%b}" % b",".join(
            b"%b:%b" % (msgspec.json.encode(name), whole(bytes(value))) for name, value in split(text).items()
        )
    check_once(text)
    if marked:
        text = MARKED.sub(rb"\1", text)
    return Plain(text, split(text), frozenset(WORDS.findall(text)))


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
        text = bytes(document.mini) if mini else b""
    finally:
        # A traceback would keep it alive, and a parser can't be used again as long as it is.
        del document
    if any(len(name) > NAME for name in names):
        refuse(f"The request body has a member whose name is longer than {NAME} characters.")
    if len(set(names)) != len(names):
        twice(next(name for name in names if names.count(name) > 1))
    return text


# No member twice


class Known(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a turn, a block, a tool, a source or a `cache_control` usually has. To be read and written again: what comes
    out is as long as what went in, unless a member was there twice."""

    type: Raw | UnsetType = UNSET
    role: Raw | UnsetType = UNSET
    content: str | list[Known] | Known | UnsetType | None = UNSET
    cache_control: Known | UnsetType | None = UNSET
    source: str | Known | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    name: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    tool_use_id: Raw | UnsetType = UNSET
    is_error: Raw | UnsetType = UNSET
    thinking: Raw | UnsetType = UNSET
    signature: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    media_type: Raw | UnsetType = UNSET
    url: Raw | UnsetType = UNSET
    file_id: Raw | UnsetType = UNSET
    ttl: Raw | UnsetType = UNSET
    title: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    citations: Raw | UnsetType = UNSET
    caller: Raw | UnsetType = UNSET
    encrypted_content: Raw | UnsetType = UNSET
    page_age: Raw | UnsetType = UNSET
    description: Raw | UnsetType = UNSET
    input_schema: Raw | UnsetType = UNSET
    strict: Raw | UnsetType = UNSET
    max_uses: Raw | UnsetType = UNSET


LISTS = frozenset(("messages", "system", "tools"))
known = msgspec.json.Decoder(list[Known])
anything = msgspec.json.Decoder(float_hook=lambda written: Raw(written.encode()))
encoder = msgspec.json.Encoder()


def check_once(text: bytes) -> None:
    """Check that no object in a plain text has a member twice; of objects that only a model reads (what a tool takes),
    that may be left out.

    Raises:
        GatewayError: 400, one has.
    """
    # Characters beyond ASCII as one and the same: names that differ in nothing else are looked at again.
    for name, value in split(ascii_only(text)).items():
        if memoryview(value)[0] in b"[{" and not (name in LISTS and seems_once(value)):
            break
    else:
        return
    for name, value in split(text).items():
        if memoryview(value)[0] in b"[{" and not (name in LISTS and seems_once(value)) and not is_once(value):
            twice(name, "has an object with a member twice")


def seems_once(value: Raw) -> bool:
    """Whether no object in it has a member twice; False where that isn't seen at once."""
    try:
        return len(encoder.encode(known.decode(value))) == len(memoryview(value))
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
    return outside_strings(WHOLE, b"", value) if FRACTION.search(value) else value


def outside_strings(pattern: re.Pattern[bytes], instead: bytes, text: bytes) -> bytes:
    """The same with what a pattern finds between the strings of a JSON text replaced."""
    if b'"' not in text:
        return pattern.sub(instead, text)
    # Quotes within strings go, and nothing else changes its place.
    masked = text.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')
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
