"""Providers' JSON, read at a bounded cost: of long JSON with many parts, only the members that the caller names are
read. The rest is skipped, and no objects are created for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, defstruct

from messages_api.process.long_bodies import MOST_PARTS, NO_PART, SHORT

# The most elements that an outline reads of a list, and of all lists together.
MOST_ELEMENTS = 1000
ALL_ELEMENTS = 5 * MOST_ELEMENTS
# Bytes of the longest JSON with many parts that Python's slower, more tolerant decoder reads if msgspec's fails: it
# replaces half characters.
MENDED = 512 << 10
# Longer JSON with many parts isn't read at all. Each level of an outline is another pass over the bytes, and only
# files make a model's answer as long, which have few parts.
LONGEST = 16 << 20

_decode = msgspec.json.Decoder().decode


class Members:
    """An object of which only these members are read: each whole (None), or in outline."""

    def __init__(self, **members: Members | Elements | None) -> None:
        self.members = members
        fields = [(name, Raw | UnsetType, UNSET) for name in members]
        self.decode = msgspec.json.Decoder(defstruct("Some", fields, gc=False)).decode


class Elements:
    """A list of which only the first elements are read, each in outline."""

    fields = tuple(f"at_{n}" for n in range(MOST_ELEMENTS))
    decode = msgspec.json.Decoder(
        defstruct("First", [(name, Raw | UnsetType, UNSET) for name in fields], array_like=True, gc=False)
    ).decode

    def __init__(self, each: Members) -> None:
        self.each = each


class Outline:
    """Reads one outline.

    Attributes:
        whole: everything that the shape names was read. A value that was not read is a `Raw` in the result.
    """

    def __init__(self) -> None:
        self.whole = True
        self.parts = MOST_PARTS
        self.elements = ALL_ELEMENTS

    def read(self, data: bytes, shape: Members) -> dict[str, Any] | None:
        """The object; None if the data isn't one, or can't be read."""
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
        except msgspec.ValidationError:  # another type than the shape says
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
    """Decode a provider's JSON; None if it can't be read. A cut emoji is replaced: it must not cost the usage report.

    Args:
        shape: the members that are read of long JSON with many parts; None: no member.
    """
    if not is_many(data):
        return decode_all(data)
    read = Outline().read(data, shape) if shape is not None else None
    return decode_all(data) if read is None and len(data) <= MENDED else read


def decode_all(data: bytes) -> object:
    """Decode JSON completely: for short JSON, or where no other call has to wait meanwhile."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):  # msgspec's own error, and UnicodeDecodeError, are ValueErrors
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def is_many(data: bytes) -> bool:
    """Whether the JSON may have too many parts to be decoded completely while other calls wait."""
    return len(data) > SHORT and data[:1] != b'"' and parts_of(data, MOST_PARTS) > MOST_PARTS


def parts_of(data: bytes | memoryview, most: int) -> int:
    """An upper bound of the lists, objects and members, counted until it passes `most`: signs in strings count, too."""
    count = 0
    for start in range(0, len(data), SHORT):
        count += len(bytes(data[start : start + SHORT]).translate(None, NO_PART))
        if count > most:
            break
    return count
