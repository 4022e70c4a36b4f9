"""JSON as providers send it, read at a cost that its sender can't choose: what is long and has many parts is read in
outline, as far as its reader names members that it looks at. The rest is skipped, and no object is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, defstruct

from messages_api.long_bodies import MOST_PARTS, NO_PART, SHORT

# Elements of a list, and of all lists, that an outline has at most.
MOST_ELEMENTS = 1000
ALL_ELEMENTS = 5 * MOST_ELEMENTS
# What is long and has many parts is read by Python's slower reader, which lets half a character pass, up to this size.
MENDED = 512 << 10
# And this much of it can't be read: each level of an outline is another pass over the bytes, and no model's answer is
# that long but for files in it, which have few parts.
LONGEST = 16 << 20

_decode = msgspec.json.Decoder().decode


class Members:
    """An object of which some members are read: each in whole (None), or as it says."""

    def __init__(self, **members: Members | Elements | None) -> None:
        self.members = members
        fields = [(name, Raw | UnsetType, UNSET) for name in members]
        self.decode = msgspec.json.Decoder(defstruct("Some", fields, gc=False)).decode


class Elements:
    """A list whose first elements are read, each as it says."""

    fields = tuple(f"at_{n}" for n in range(MOST_ELEMENTS))
    decode = msgspec.json.Decoder(
        defstruct("First", [(name, Raw | UnsetType, UNSET) for name in fields], array_like=True, gc=False)
    ).decode

    def __init__(self, each: Members) -> None:
        self.each = each


class Outline:
    """Reads one outline.

    Attributes:
        whole: everything that is named was read. What was not is there as `Raw`, which is neither object nor list.
    """

    def __init__(self) -> None:
        self.whole = True
        self.parts = MOST_PARTS
        self.elements = ALL_ELEMENTS

    def read(self, data: bytes, shape: Members) -> dict[str, Any] | None:
        """The object; None where it is none, or can't be read."""
        if len(data) > LONGEST:
            return None
        try:
            return self._members(data, shape)
        except (ValueError, RecursionError):
            return None

    def _members(self, data: bytes | Raw, shape: Members) -> dict[str, Any]:
        found = shape.decode(data)
        return {
            name: self._value(value, inner)
            for name, inner in shape.members.items()
            if (value := getattr(found, name)) is not UNSET
        }

    def _value(self, value: Raw, shape: Members | Elements | None) -> Any:
        view = memoryview(value)
        parts = parts_of(view, self.parts) if view[0] in b"{[" else 0
        if parts <= self.parts:
            self.parts -= parts
            return decode_all(bytes(value))
        try:
            if isinstance(shape, Members):
                return self._members(value, shape)
            if isinstance(shape, Elements):
                return list(self._some(value, shape.each))
        except msgspec.ValidationError:  # it is something else
            pass
        self.whole = False
        return value

    def _some(self, value: Raw, shape: Members) -> Iterator[Any]:
        found = Elements.decode(value)
        for name in Elements.fields:
            if (element := getattr(found, name)) is UNSET:
                return
            if not self.elements:
                break
            self.elements -= 1
            yield self._value(element, shape)
        self.whole = False


def decode(data: bytes, shape: Members | None = None) -> object:
    """JSON as a provider sends it, None where it can't be read at all: usage must not get lost over a cut emoji.

    Args:
        shape: what is read of a long one with many parts; None: nothing.
    """
    if not is_many(data):
        return decode_all(data)
    read = Outline().read(data, shape) if shape is not None else None
    return decode_all(data) if read is None and len(data) <= MENDED else read


def decode_all(data: bytes) -> object:
    """As `decode`, in whole: for where no other call waits, or what is short."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):  # msgspec's own error, and UnicodeDecodeError, are ValueErrors
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def is_many(data: bytes) -> bool:
    """Whether it may have so many parts that others would have to wait while it is read in whole."""
    return len(data) > SHORT and data[:1] != b'"' and parts_of(data, MOST_PARTS) > MOST_PARTS


def parts_of(data: bytes | memoryview, most: int) -> int:
    """Lists, objects and members at most, counted up to a number: signs within strings count, too."""
    count = 0
    for start in range(0, len(data), SHORT):
        count += len(bytes(data[start : start + SHORT]).translate(None, NO_PART))
        if count > most:
            break
    return count
