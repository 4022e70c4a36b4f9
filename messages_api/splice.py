"""Changes of a request's bytes: members and elements are replaced or cut out, and every other byte stays as it is.

The bodies are requests that were read (schema.py): strict JSON, no member twice at the top.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

# A member's name with what is around it.
MEMBER = re.compile(rb'[ \t\n\r]*+"(?:[^"\\]++|\\.)*+"[ \t\n\r]*+:[ \t\n\r]*+')
SPACE = re.compile(rb"[ \t\n\r]*+")

members_of = msgspec.json.Decoder(dict[str, msgspec.Raw])
elements_of = msgspec.json.Decoder(list[msgspec.Raw])


class Edit(NamedTuple):
    """What takes the place of the bytes from `begin` to `end`."""

    begin: int
    end: int
    instead: bytes = b""


class Place(NamedTuple):
    """Where a member is: from after the comma (or brace) before it to the one after it, and its value within."""

    begin: int
    value: int
    value_end: int
    end: int


Span = tuple[int, int]


def apply(body: bytes, edits: Iterable[Edit]) -> bytes:
    """The body with these edits, which are in order and don't overlap."""
    at, parts = 0, list[bytes]()
    for begin, end, instead in edits:
        parts += (body[at:begin], instead)
        at = end
    return b"".join((*parts, body[at:])) if parts else body


def places(body: bytes, members: Mapping[str, msgspec.Raw], at: int = 0) -> Iterator[tuple[str, Place]]:
    """The members of an object that has none twice, in order, with their places in the body.

    Args:
        members: the object by `members_of`.
        at: where it begins; spaces may come first.
    """
    at = body.index(b"{", at) + 1
    for name, value in members.items():
        head = MEMBER.match(body, at)
        assert head is not None
        value_end = head.end() + len(memoryview(value))
        end = after_space(body, value_end)
        yield name, Place(at, head.end(), value_end, end)
        at = end + 1


def elements(body: bytes, name: str) -> Iterator[Span]:
    """Where each element of the array is that is a member at the top; none, if there is no such array."""
    place = next((place for each, place in places(body, members_of.decode(body)) if each == name), None)
    if place is None or body[place.value : place.value + 1] != b"[":
        return
    at = place.value + 1
    for item in elements_of.decode(memoryview(body)[place.value : place.value_end]):
        begin = after_space(body, at)
        end = begin + len(memoryview(item))
        yield begin, end
        at = after_space(body, end) + 1


def after_space(body: bytes, at: int) -> int:
    """Where something other than space begins."""
    return SPACE.match(body, at).end()  # type: ignore[union-attr]


def dropped(spans: Sequence[Span], out: Collection[int]) -> Iterator[Edit]:
    """What takes some elements out of an array, or members out of an object, each with a comma beside it.

    Args:
        spans: where all of them are.
        out: the indices of those that go.
    """
    if out and len(out) == len(spans):
        yield Edit(spans[0][0], spans[-1][1])
        return
    follows = False
    for index, (begin, end) in enumerate(spans):
        if index not in out:
            follows = True
        elif follows:
            yield Edit(spans[index - 1][1], end)
        else:
            yield Edit(begin, spans[index + 1][0])


def cut(body: bytes, name: str) -> list[Edit]:
    """What takes one of the members at its top out of a body, with a comma beside it."""
    for each, place in places(body, members_of.decode(body)):
        if each == name:
            last = body[place.end : place.end + 1] == b"}"
            alone = last and body[place.begin - 1 : place.begin] == b"{"
            return [Edit(place.begin - (last and not alone), place.end + (not last))]
    return []


def edited(body: bytes, members: Mapping[str, msgspec.Raw], *, without: Container[str], first: bytes) -> bytes:
    """The body without some of the members at its top and with others before them.

    Args:
        members: the body by `members_of`.
        first: members as JSON, separated by commas.
    """
    kept, begin, end = [first], body.index(b"{") + 1, 0
    for name, place in places(body, members):
        if name not in without:
            kept.append(body[place.begin : place.end])
        end = place.end
    return body[:begin] + b",".join(kept) + body[end:]


def model(body: bytes, name: str) -> list[Edit]:
    """What gives a body another model."""
    for each, place in places(body, members_of.decode(body)):
        if each == "model":
            return [Edit(place.value, place.value_end, msgspec.json.encode(name))]
    return []


def max_tokens(body: bytes, tokens: int) -> list[Edit]:
    """What gives a body that names no `max_tokens` these."""
    at = body.index(b"{") + 1
    return [Edit(at, at, b'"max_tokens":%d,' % tokens)]
