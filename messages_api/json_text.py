"""Where things are in a JSON text, exactly, also where a member's name is escaped or occurs twice. Pure.

A text here is a part of a body that was checked, decoded as Latin-1: a character is a byte, so that places are the
body's. What isn't ASCII is read wrongly thereby, which does no harm where names are looked for. Slow beside msgspec:
for the few parts of a body that may have what is looked for.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any, NamedTuple

# Small letters and the underscore by their numbers: where there are none, a name of these is spelled as it is.
ESCAPED = re.compile(rb"\\u00(5[fF]|[67][0-9a-fA-F])")

_SPACE = re.compile(r"[ \t\n\r]*")
# Numbers may be of any length, and none is read.
_scan = JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


class Part(NamedTuple):
    """A member of an object, or an element of an array, which has no name: where it is, where its value begins, and
    the value."""

    name: str
    begin: int
    end: int
    at: int
    value: Any


def members(text: str, at: int = 0) -> list[Part]:
    """The members of the object that begins here, in order, each as often as it occurs.

    Raises:
        RecursionError: it is nested deeper than Python reads.
    """
    found = list[Part]()
    at = _after_space(text, at + 1)
    while text[at] != "}":
        name, after = _scan(text, at)
        begins = _after_space(text, _after_space(text, after) + 1)
        value, end = _scan(text, begins)
        found.append(Part(name, at, end, begins, value))
        at = _after_comma(text, end)
    return found


def elements(text: str, at: int = 0) -> list[Part]:
    """The elements of the array that begins here.

    Raises:
        RecursionError: it is nested deeper than Python reads.
    """
    found = list[Part]()
    at = _after_space(text, at + 1)
    while text[at] != "]":
        value, end = _scan(text, at)
        found.append(Part("", at, end, at, value))
        at = _after_comma(text, end)
    return found


def last(found: list[Part], name: str) -> Part | None:
    """The member of this name that counts: of several, the last."""
    return next((part for part in reversed(found) if part.name == name), None)


def _after_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _after_comma(text: str, at: int) -> int:
    at = _after_space(text, at)
    return _after_space(text, at + 1) if text[at] == "," else at
