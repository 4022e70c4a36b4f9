"""What a Messages request must be for us to act on it; everything that we don't know passes through untouched.

The whole body is checked to be strict JSON (UTF-8, no NaN, bounded depth, no member twice at the top), since a
provider may read a doubtful body differently from us; only the few members that decide something are looked at.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any, NoReturn

import simdjson

from messages_api.errors import GatewayError, invalid_request

# A model's name reaches logs, pages and the ledger.
MODEL = re.compile(r"[^\x00-\x20\x7f-\x9f\ud800-\udfff]{1,200}")
MAX_TOKENS = 10_000_000
# simdjson keeps buffers as large as the largest document that a parser has seen.
REUSE = 1 << 20

READ = frozenset(
    ("model", "max_tokens", "messages", "stream", "system", "tools", "metadata", "thinking", "tool_choice")
)

_parser = simdjson.Parser()


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """The members of a Messages request that decide how it is routed, held and answered."""

    model: str
    max_tokens: int
    stream: bool
    thinking: bool


def parse(body: bytes, *, counting: bool = False) -> MessagesRequest:
    """Read a Messages request, or one to count its tokens: that is the same without what is about an answer.

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    members = top_level(body)
    if counting:
        members |= {"max_tokens": 0, "stream": False}
    model = members.get("model")
    if model is None:
        refuse("model: Field required")
    if not isinstance(model, str):
        refuse("model: Input should be a valid string")
    if not MODEL.fullmatch(model):
        refuse("model: Input should be a model's name: 1 to 200 characters, no spaces or control characters")
    max_tokens = members.get("max_tokens")
    if max_tokens is None:
        refuse("max_tokens: Field required")
    if type(max_tokens) is not int:
        refuse("max_tokens: Input should be a valid integer")
    if not 0 <= max_tokens <= MAX_TOKENS:
        refuse(f"max_tokens: Input should be between 0 and {MAX_TOKENS}")
    if "messages" not in members:
        refuse("messages: Field required")
    if members["messages"] is not list:
        refuse("messages: Input should be a valid array")
    stream = members.get("stream")
    if stream is not None and type(stream) is not bool:
        refuse("stream: Input should be a valid boolean")
    if members.get("system") not in (None, list) and not isinstance(members["system"], str):
        refuse("system: Input should be a valid string or array")
    for name, kind in (("tools", list), ("metadata", dict), ("thinking", dict), ("tool_choice", dict)):
        if members.get(name) not in (None, kind):
            refuse(f"{name}: Input should be a valid {'array' if kind is list else 'object'}")
    return MessagesRequest(model, max_tokens, bool(stream), members.get("thinking") is dict)


def top_level(body: bytes) -> dict[str, Any]:
    """The members of the object that the body is: those in READ with their values, nested arrays and objects as the
    types `list` and `dict`; the others with None.

    Raises:
        GatewayError: 400, it isn't strict JSON, isn't an object, or has a member twice.
    """
    if body.startswith(BOM_UTF8):
        refuse("The request body is not valid JSON: it begins with a byte order mark.")
    parser = _parser if len(body) < REUSE else simdjson.Parser()
    document = None
    try:
        document = parser.parse(body)
        if not isinstance(document, simdjson.Object):
            refuse("The request body must be a JSON object.")
        # Their values are only made where they are looked at: `items()` would make all of them.
        pairs = [(name, _shallow(document[name]) if name in READ else None) for name in document.keys()]  # noqa: SIM118
    except UnicodeDecodeError:
        refuse("The request body is not valid JSON: it is not UTF-8.")
    except (ValueError, RuntimeError, MemoryError) as error:
        # Numbers beyond 64 bits are legal JSON all the same: the slow reader takes them.
        if "NUMBER" in str(error) or "BIGINT" in str(error):
            pairs = _slowly(body)
        else:
            refuse("The request body is not valid JSON" + _reason(str(error)))
    finally:
        del document  # the parser can't be used again while a document of its own lives
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        refuse(f"{twice[:60]}: the request body has this member twice")
    return members


def _shallow(value: object) -> object:
    if isinstance(value, simdjson.Array):
        return list
    return dict if isinstance(value, simdjson.Object) else value


def _slowly(body: bytes) -> list[tuple[str, Any]]:
    depth_first: list[list[tuple[str, Any]]] = []

    def keep(pairs: list[tuple[str, Any]]) -> type[dict]:  # type: ignore[type-arg]
        depth_first.append(pairs)
        return dict

    try:
        value = json.loads(body, object_pairs_hook=keep, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("The request body is not valid JSON.")
    if value is not dict:
        refuse("The request body must be a JSON object.")
    return [(name, list if isinstance(value, list) else value) for name, value in depth_first[-1]]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _reason(error: str) -> str:
    for sign, reason in (
        ("DEPTH", ": it is nested too deep."),
        ("UNESCAPED", ": a string contains a raw control character."),
        ("STRING", ": a string contains an invalid escape."),
        ("UTF8", ": it is not UTF-8."),
        ("EMPTY", ": it is empty."),
    ):
        if sign in error:
            return reason
    return "."


def refuse(message: str) -> NoReturn:
    error: GatewayError = invalid_request(message)
    raise error
