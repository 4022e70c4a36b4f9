"""A request in one spelling. The gateway reads what a request means from this, never from the client's bytes.

JSON allows many spellings of the same value: escaped characters, spaces, members in any order, 1e3 for 1000. Here each
value has one spelling. Only the order of members stays, and no code may depend on it. The provider gets the body as the
client wrote it. Pure.
"""

from __future__ import annotations

import re
import secrets
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, NoReturn

import msgspec
import simdjson
from msgspec import UNSET, Raw, Struct, UnsetType

from messages_api.json_text.byte_edits import members_of
from messages_api.server.errors import invalid_request

# The most members at the top of a body, and characters of their names. Real bodies have a few dozen, with short names.
MEMBERS = 1000
NAME = 200
# Longer bodies get a parser of their own: simdjson's parsers keep buffers as large as their largest document.
REUSE = 1 << 20
# Replaces each byte beyond ASCII. Most readers don't look at text, and reading takes half the time without decoding it.
ASCII = bytes(range(128)) + b"\x7f" * 128

# How simdjson writes a whole number that had a fraction or an exponent, up to 17 digits.
FRACTION = re.compile(rb"\.0(?:[,}\]]|\Z)")
# What precedes that point in a number, and seldom within a string; and the most points that are examined.
BEFORE_POINT = re.compile(rb"(?:\A|[:,\[])-?[0-9]{1,17}\Z")
POINTS = 500
WHOLE = re.compile(rb"(?:-(?=0\.0(?![0-9])))|\.0(?![0-9e])")
# Integers beyond 64 bits are valid JSON, but simdjson refuses them: it gets them as strings that begin with a mark.
LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?[1-9][0-9]{18,}+(?=[ \t\n\r]*+(?:[,}\]]|\Z))")
MARK = secrets.token_hex(8).encode()
MARKED = re.compile(b'"' + MARK + b'(-?[0-9]+)"')
# The exceptions that simdjson raises.
WRONG = (ValueError, RuntimeError, MemoryError)

_parser = simdjson.Parser()


class Plain:
    """A request: its text, the names of its members, and those of members that have objects with unusual members."""

    __slots__ = ("_found", "_members", "names", "text", "unusual")

    def __init__(self, text: bytes, names: Collection[str], unusual: Collection[str]) -> None:
        self.text = text
        self.names = names
        self.unusual = unusual
        self._members: dict[str, Raw] | None = None
        self._found: dict[bytes, bool] = {}

    @property
    def members(self) -> Mapping[str, Raw]:
        """The members at the top. Few requests need them, and finding them is another pass over the text."""
        if self._members is None:
            self._members = split(self.text)
        return self._members

    def has(self, word: bytes) -> bool:
        """Whether the text has this string anywhere, as a member's name or as a value."""
        if (found := self._found.get(word)) is None:
            # A search from the start compares quotes first, which are everywhere; rfind is faster.
            found = self._found[word] = self.text.rfind(b'"%b"' % word) >= 0
        return found

    def those_in(self, words: tuple[bytes, ...]) -> set[bytes]:
        """Those of these strings that the text has anywhere."""
        return {word for word in words if self.has(word)}


def of(body: bytes) -> Plain:
    """Check a body and bring it into one spelling.

    Raises:
        GatewayError: 400, it isn't an object in strict JSON, or an object that the gateway reads has a member twice.
    """
    text, names, marked = checked(body, mini=True)
    if has_fraction(text):
        text = b"{%b}" % b",".join(
            b"%b:%b" % (msgspec.json.encode(name), whole(bytes(value))) for name, value in split(text).items()
        )
    unusual = check_once(text)
    if marked:
        text = MARKED.sub(rb"\1", text)
    return Plain(text, names, unusual)


def ascii_only(text: bytes) -> bytes:
    """The text of the same length, with each byte beyond ASCII replaced."""
    return text if text.isascii() else text.translate(ASCII)


def split(text: bytes) -> dict[str, Raw]:
    """The members at the top of a body."""
    try:
        return members_of.decode(text)
    except RecursionError:
        refuse("The request body is not valid JSON" + reason("DEPTH"))


# Strict JSON


def check(body: bytes) -> None:
    """Check that a body is an object in strict JSON without duplicate members at the top.

    Raises:
        GatewayError: 400, it isn't.
    """
    checked(body, mini=False)


def checked(body: bytes, *, mini: bool) -> tuple[bytes, list[str], bool]:
    """The body as simdjson writes it (empty unless `mini`), the names of its members, and whether long numbers are
    marked in it.

    Raises:
        GatewayError: 400, it isn't an object in strict JSON, or has a member twice at the top.
    """
    if body.startswith(BOM_UTF8):
        refuse("The request body is not valid JSON: it begins with a byte order mark.")
    parser = _parser if len(body) < REUSE else simdjson.Parser()
    try:
        return *parsed(parser, body, mini=mini), False
    except WRONG as error:
        if "NUMBER" not in str(error) and "BIGINT" not in str(error):
            refuse("The request body is not valid JSON" + reason(str(error)))
    marked = outside_strings(LONG_NUMBER, b'"' + MARK + rb'\g<0>"', body)
    try:
        return *parsed(parser, marked, mini=mini), True
    except WRONG as error:
        refuse("The request body is not valid JSON" + reason(str(error)))


def parsed(parser: simdjson.Parser, body: bytes, *, mini: bool) -> tuple[bytes, list[str]]:
    """The body as simdjson writes it (empty unless `mini`), and the names of its members.

    Raises:
        ValueError, RuntimeError, MemoryError: simdjson can't read it.
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
        # A traceback would keep the document alive, and its parser can't be reused until it is gone.
        del document
    if max(map(len, names), default=0) > NAME:
        refuse(f"The request body has a member whose name is longer than {NAME} characters.")
    if len(set(names)) != len(names):
        twice(next(name for name in names if names.count(name) > 1))
    return text, names


# No member twice


class Mark(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A `cache_control`.

    This struct and those below are decoded and encoded again: the result is as long as the input unless the input has a
    duplicate member.
    """

    type: Raw | UnsetType = UNSET
    ttl: Raw | UnsetType = UNSET


class Source(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The source of an image or a document."""

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
    role: Raw | UnsetType = UNSET
    content: str | list[Text | Image | Document | Thinking | RedactedThinking | ToolUse | ToolResult] | UnsetType = (
        UNSET
    )


class Tool(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A client's own tool."""

    type: Raw | UnsetType = UNSET
    name: Raw | UnsetType = UNSET
    description: Raw | UnsetType = UNSET
    input_schema: Raw | UnsetType = UNSET
    cache_control: Mark | UnsetType | None = UNSET
    strict: Raw | UnsetType = UNSET


class Request(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A request with the usual members."""

    model: Raw | UnsetType = UNSET
    messages: list[Turn] | UnsetType = UNSET
    system: str | list[Text] | UnsetType = UNSET
    tools: list[Tool] | UnsetType = UNSET
    max_tokens: Raw | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET
    temperature: Raw | UnsetType = UNSET
    top_p: Raw | UnsetType = UNSET
    top_k: Raw | UnsetType = UNSET
    stop_sequences: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    thinking: Raw | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET
    context_management: Raw | UnsetType = UNSET
    output_config: Raw | UnsetType = UNSET
    service_tier: Raw | UnsetType = UNSET


# What each of them says is checked by itself.
OTHERS = tuple(name for name in Request.__struct_fields__ if name not in ("messages", "system", "tools"))
request = msgspec.json.Decoder(Request)
USUAL: dict[str, msgspec.json.Decoder[Any]] = {
    "messages": msgspec.json.Decoder(list[Turn]),
    "system": msgspec.json.Decoder(list[Text]),
    "tools": msgspec.json.Decoder(list[Tool]),
}
anything = msgspec.json.Decoder(float_hook=lambda written: Raw(written.encode()))
encoder = msgspec.json.Encoder()


def check_once(text: bytes) -> list[str]:
    """Check that no object in a plain text has a member twice. Objects that only a model reads may be skipped, such as
    the input of a tool.

    A usual request is checked in one pass. Of any other one, each member is.

    Returns:
        The members at the top that have unusual objects.

    Raises:
        GatewayError: 400, an object has a member twice.
    """
    # The ASCII text is faster to read. But two names that differ only beyond ASCII look alike in it: what it doesn't
    # prove is read in full.
    plain = text.isascii()
    shown_text = text if plain else text.translate(ASCII)
    others = others_once(shown_text)
    if others is not None:
        for name, value in (others if plain or not others else split(text)).items():
            if name in others and not is_once(value):
                twice(name, "has an object with a member twice")
        return list(others)
    members = split(text)
    shown = members if plain else split(shown_text)
    if len(shown) != len(members):  # two names at the top look alike
        shown = members
    unusual = []
    for (name, value), seen in zip(members.items(), shown.values(), strict=True):
        if memoryview(value)[0] not in b"[{" or (name in USUAL and seems_once(USUAL[name], seen)):
            continue
        if not is_once(value):
            twice(name, "has an object with a member twice")
        unusual.append(name)
    return unusual


def others_once(text: bytes) -> dict[str, Raw] | None:
    """The other members of a usual request that are objects or lists, if no object in its messages, system prompt and
    tools has a member twice; None: unknown."""
    try:
        found = request.decode(text)
        if len(encoder.encode(found)) != len(text):
            return None
    except (ValueError, RecursionError):
        return None
    others = {name: value for name in OTHERS if (value := getattr(found, name)) is not UNSET}
    return {name: value for name, value in others.items() if memoryview(value)[0] in b"[{"}


def seems_once(usual: msgspec.json.Decoder[Any], value: Raw) -> bool:
    """Whether this type's decoder proves that no object in the value has a member twice; False: unknown."""
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
    """The value with each number like 1.0 written as an integer."""
    return outside_strings(WHOLE, b"", value) if has_fraction(value) else value


def has_fraction(text: bytes) -> bool:
    """Whether a text may have a number like 1.0 outside of its strings."""
    points = islice(FRACTION.finditer(text), POINTS + 1)
    return any(
        index == POINTS or BEFORE_POINT.search(text[max(0, point.start() - 20) : point.start()])
        for index, point in enumerate(points)
    )


def outside_strings(pattern: re.Pattern[bytes], instead: bytes, text: bytes) -> bytes:
    """The JSON text with each match of the pattern outside of strings replaced."""
    if b'"' not in text:
        return pattern.sub(instead, text)
    # Mask escaped quotes without moving anything: then each quote begins or ends a string.
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
    """The end of a message that says what simdjson found wrong."""
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
