"""The exact positions of members and elements in a JSON text, even if a name is escaped or occurs twice. Pure.

A text here is a part of a checked body, decoded as Latin-1: a character is a byte, so that positions are those of the
body. Characters beyond ASCII are misread, which doesn't matter for finding names. This is slow compared to msgspec, and
only for the few parts of a body that may have the wanted name.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any, NamedTuple

# An escaped small letter or underscore: in a text without any, a name of these characters stands unescaped.
ESCAPED = re.compile(rb"\\u00(5[fF]|[67][0-9a-fA-F])")

_SPACE = re.compile(r"[ \t\n\r]*")
# Numbers stay strings: they may be of any length, and their values don't matter here.
_scan = JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


class JsonPart(NamedTuple):
    """A member of an object, or an element of an array (without a name).

    It extends from `begin` to `end`; its value begins at `at`.
    """

    name: str
    begin: int
    end: int
    at: int
    value: Any


def members(text: str, at: int = 0) -> list[JsonPart]:
    """The members of the object at this position, in order, duplicates included.

    Raises:
        RecursionError: the object is nested deeper than Python reads.
    """
    found = list[JsonPart]()
    at = _after_space(text, at + 1)
    while text[at] != "}":
        name, after = _scan(text, at)
        begins = _after_space(text, _after_space(text, after) + 1)
        value, end = _scan(text, begins)
        found.append(JsonPart(name, at, end, begins, value))
        at = _after_comma(text, end)
    return found


def elements(text: str, at: int = 0) -> list[JsonPart]:
    """The elements of the array at this position.

    Raises:
        RecursionError: the array is nested deeper than Python reads.
    """
    found = list[JsonPart]()
    at = _after_space(text, at + 1)
    while text[at] != "]":
        value, end = _scan(text, at)
        found.append(JsonPart("", at, end, at, value))
        at = _after_comma(text, end)
    return found


def last(found: list[JsonPart], name: str) -> JsonPart | None:
    """The last member of this name: of several, this one counts."""
    return next((part for part in reversed(found) if part.name == name), None)


def _after_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _after_comma(text: str, at: int) -> int:
    at = _after_space(text, at)
    return _after_space(text, at + 1) if text[at] == "," else at
