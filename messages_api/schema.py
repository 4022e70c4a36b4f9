"""What a Messages request must be for us to act on it; everything that we don't know passes through untouched.

Two readings of the body. The first checks that it is strict JSON (UTF-8, no NaN, bounded depth, no member twice at the
top), since a provider may read a doubtful body differently from us. The second reads it by the types below: a check
for what is known to be wrong, never an allow-list. https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import simdjson
from msgspec import UNSET, Meta, Struct, UnsetType

from messages_api.errors import GatewayError, invalid_request

# A model's name reaches logs, pages and the ledger: no spaces, control characters or surrogates.
MODEL = r"^[^\x00-\x20\x7f-\x9f]+$"
MAX_TOKENS = 10_000_000
# A body has a few dozen members at the top.
MEMBERS = 1000
LONG_NUMBER = re.compile(rb"[0-9]{19,}")
# simdjson keeps buffers as large as the largest document that a parser has seen.
REUSE = 1 << 20

WHERE = re.compile(r" - at `\$\.?(.*)`$")
INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
MISSING = re.compile(r"Object missing required field `(\w+)`")

Fraction = Annotated[float, Meta(ge=0, le=1)]
Members = dict[str, msgspec.Raw]


class Block(Struct):
    """A content block: its type is all that every one has."""

    type: str


class Message(Struct):
    """One turn. A system message may carry other members than content."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.content is UNSET and self.role != "system":
            raise ValueError("content: Field required")


class CountBody(Struct, kw_only=True):
    """A request to count tokens: a Messages request without what is about its answer. Null counts as left out."""

    model: Annotated[str, Meta(max_length=200, pattern=MODEL)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    system: str | list[Block] | None = None
    tools: list[Members] | None = None
    tool_choice: Members | None = None
    thinking: Members | None = None
    output_format: Members | None = None
    output_config: Members | None = None
    cache_control: Members | None = None
    context_management: Members | None = None
    mcp_servers: list[Members] | None = None


class MessagesBody(CountBody, kw_only=True):
    """A Messages request. `fallbacks` may be strings (ours), objects or `default` (Anthropic's own)."""

    max_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
    stream: bool | None = None
    temperature: Fraction | None = None
    top_p: Fraction | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    metadata: Members | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    container: str | Members | None = None
    fallbacks: Literal["default"] | list[Any] | None = None


messages_body = msgspec.json.Decoder(MessagesBody)
count_body = msgspec.json.Decoder(CountBody)

_parser = simdjson.Parser()


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What decides how a request is routed, held and answered."""

    model: str
    max_tokens: int
    stream: bool


def parse(body: bytes, *, counting: bool = False) -> MessagesRequest:
    """Read a Messages request, or one to count its tokens.

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    check_json(body)
    try:
        if counting:
            return MessagesRequest(count_body.decode(body).model, 0, False)
        read = messages_body.decode(body)
        return MessagesRequest(read.model, read.max_tokens, bool(read.stream))
    except msgspec.ValidationError as error:
        refuse(in_words(str(error)))
    except (ValueError, RecursionError):
        refuse("The request body is not valid JSON.")


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


def in_words(error: str) -> str:
    """msgspec's words in Anthropic's order: the field, then what was expected."""
    where = WHERE.search(error)
    path = INDEX.sub(r".\1", where[1]) if where else ""
    said = WHERE.sub("", error)
    if missing := MISSING.search(said):
        return f"{path}.{missing[1]}: Field required".lstrip(".")
    if said == "content: Field required":
        return f"{path}.{said}"
    return f"{path}: {said.replace('`', '')}" if path else said


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
