"""Edits a request's bytes: replaces or removes members and elements, and leaves every other byte unchanged. The bodies
are checked requests (request/schema.py): strict JSON, no member twice at the top.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import msgspec

# A member's name with the space and the quotes around it.
MEMBER = re.compile(rb'[ \t\n\r]*+"(?:[^"\\]++|\\.)*+"[ \t\n\r]*+:[ \t\n\r]*+')
SPACE = re.compile(rb"[ \t\n\r]*+")
END_OF_OBJECT = ord("}")

members_of = msgspec.json.Decoder(dict[str, msgspec.Raw])
elements_of = msgspec.json.Decoder(list[msgspec.Raw])


class Edit(NamedTuple):
    """Replaces the bytes from `begin` to `end` with `instead`."""

    begin: int
    end: int
    instead: bytes = b""


class MemberPlace(NamedTuple):
    """The place of a member, from after the comma (or brace) before it to the one after it, and that of its value."""

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


def places(body: bytes, members: Mapping[str, msgspec.Raw], at: int = 0) -> Iterator[tuple[str, MemberPlace]]:
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
        yield name, MemberPlace(at, head.end(), value_end, end)
        at = end + 1


class MemberPlaces:
    """The places of the members at the top of a body. Each is searched once, when it or a later one is first needed.

    Args:
        rest: the members that are not found yet, in order.
        found: the members before them.
    """

    __slots__ = ("_found", "_rest")

    def __init__(self, rest: Iterator[tuple[str, MemberPlace]], found: dict[str, MemberPlace] | None = None) -> None:
        self._found = {} if found is None else found
        self._rest = rest

    @classmethod
    def of(cls, body: bytes) -> Self:
        """The members of a body that has not been searched yet."""
        return cls(places(body, members_of.decode(body)))

    def find(self, name: str) -> MemberPlace | None:
        """The place of this member; None: the body has no such member."""
        if name not in self._found:
            for each, place in self._rest:
                self._found[each] = place
                if each == name:
                    break
        return self._found.get(name)

    def all(self) -> dict[str, MemberPlace]:
        """The places of all members, in order."""
        self._found.update(self._rest)
        return self._found


class Edits:
    """Collects edits of a body. Every other byte stays unchanged. If an edit is within another one, the outer one
    counts.

    Args:
        members: of this body, if they are known from other edits.
    """

    __slots__ = ("_dropped", "_first", "_members", "_replaced", "_within", "body")

    def __init__(self, body: bytes, members: MemberPlaces | None = None) -> None:
        self.body = body
        self._members = members
        self._first = list[bytes]()
        self._dropped = set[str]()
        self._replaced = dict[str, bytes]()
        self._within = list[Edit]()

    @property
    def members(self) -> MemberPlaces:
        """The places of the members at the top."""
        if self._members is None:
            self._members = MemberPlaces.of(self.body)
        return self._members

    def insert(self, members: bytes) -> Self:
        """Put members before all others: as JSON, separated by commas."""
        self._first.append(members)
        return self

    def drop(self, *names: str) -> Self:
        """Remove members at the top, each with a comma beside it."""
        self._dropped.update(names)
        return self

    def replace(self, name: str, value: bytes) -> Self:
        """Give a member at the top another value, as JSON."""
        self._replaced[name] = value
        return self

    def add(self, edits: Iterable[Edit]) -> Self:
        """Add edits within the values of members."""
        self._within += edits
        return self

    def in_order(self) -> list[Edit]:
        """All edits in order, without overlaps."""
        edits, alone = [*self._within], False
        if self._dropped:
            found = self.members.all()
            out = {index for index, name in enumerate(found) if name in self._dropped}
            edits += dropped([(place.begin, place.end) for place in found.values()], out)
            alone = len(out) == len(found)
        for name, value in self._replaced.items():
            if place := self.members.find(name):
                edits.append(Edit(place.value, place.value_end, value))
        if len(edits) > 1:
            edits = outermost(edits)
        if self._first:
            at = self.body.index(b"{") + 1
            alone = alone or self.body[after_space(self.body, at)] == END_OF_OBJECT
            edits.insert(0, Edit(at, at, b",".join(self._first) + (b"" if alone else b",")))
        return edits

    def apply(self) -> bytes:
        """The body with all edits."""
        return apply(self.body, self.in_order())


def outermost(edits: Sequence[Edit]) -> list[Edit]:
    """The edits in order, without those within others. Of several at the same place, the last one counts."""
    kept, at = list[Edit](), 0
    last = {(edit.begin, -edit.end): edit for edit in edits}
    for _, edit in sorted(last.items()):
        if edit.begin >= at:
            kept.append(edit)
            at = edit.end
    return kept


def elements(body: bytes, name: str, members: MemberPlaces | None = None) -> Iterator[Span]:
    """The places of the elements of an array that is a member at the top; empty if there is no such array.

    Args:
        members: of this body, if they are known.
    """
    place = (members or MemberPlaces.of(body)).find(name)
    if place is None or body[place.value : place.value + 1] != b"[":
        return
    at = place.value + 1
    for item in elements_of.decode(memoryview(body)[place.value : place.value_end]):
        begin = after_space(body, at)
        end = begin + len(memoryview(item))
        yield begin, end
        at = after_space(body, end) + 1


def after_space(body: bytes, at: int) -> int:
    """The position of the next character that isn't space."""
    return SPACE.match(body, at).end()  # type: ignore[union-attr]


def dropped(spans: Sequence[Span], out: Collection[int]) -> Iterator[Edit]:
    """The edits that remove elements from an array, or members from an object, each with a comma beside it.

    Args:
        spans: the places of all of them.
        out: the indices of those to remove.
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


# Functions that may run in another process (process/long_bodies.py).


def all_places(body: bytes) -> dict[str, MemberPlace]:
    """The places of all members at the top of a body."""
    return MemberPlaces.of(body).all()


def cut(body: bytes, name: str) -> list[Edit]:
    """The edit that removes a member at the top of a body, with a comma beside it."""
    return Edits(body).drop(name).in_order()


def model(body: bytes, name: str) -> list[Edit]:
    """The edit that gives a body another model."""
    return Edits(body).replace("model", msgspec.json.encode(name)).in_order()


def edited(body: bytes, members: Mapping[str, msgspec.Raw], *, without: Container[str], first: bytes) -> bytes:
    """The body without some of the members at its top and with others before them.

    Args:
        members: the body by `members_of`.
        first: members as JSON, separated by commas.
    """
    out = (name for name in members if name in without)
    return Edits(body, MemberPlaces(places(body, members))).drop(*out).insert(first).apply()
