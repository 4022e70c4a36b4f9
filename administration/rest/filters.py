"""The parameters that filter lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from administration.rest.members import read_moment

Rows = QuerySet[Any]
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an action.

    Attributes:
        read: the value of a text; it raises ValueError for a text that isn't one.
        expected: what the text must be, for people.
        schema: the same as JSON schema.
        description: what the parameter is for.
    """

    read: Callable[[str], Any]
    expected: str
    schema: dict[str, Any]
    description: str = ""
    required: bool = False

    def value(self, name: str, text: str) -> Any:
        """The value of a text.

        Raises:
            ValidationError: the text isn't a value of this parameter.
        """
        try:
            if len(text) > LONGEST or "\0" in text:
                raise ValueError
            return self.read(text)
        except ValueError:
            raise ValidationError({name: f"Expected {self.expected}."}) from None


def a_text(description: str) -> tuple[Callable[[str], Any], str, dict[str, Any], str]:
    """What a parameter needs that takes a text."""

    def read(text: str) -> str:
        if not text.strip():
            raise ValueError(text)
        return text

    schema = {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": r"\S"}
    return read, f"a text of at most {LONGEST} characters", schema, description


def a_choice(choices: list[str], description: str) -> tuple[Callable[[str], Any], str, dict[str, Any], str]:
    """What a parameter needs that takes one of a few words."""
    return _choice(choices), f"one of {', '.join(choices)}", {"type": "string", "enum": choices}, description


def a_whole_number(most: int, description: str) -> tuple[Callable[[str], Any], str, dict[str, Any], str]:
    """What a parameter needs that takes a number from 1 to `most`."""

    def read(text: str) -> int:
        if (number := _number(text)) > most:
            raise ValueError(text)
        return number

    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return read, f"a whole number from 1 to {most}", schema, description


@dataclass(frozen=True, slots=True)
class Filter:
    """A parameter of a list.

    Attributes:
        read: the value of a text; it raises ValueError for a text that isn't one.
        select: the rows for a value.
        expected: what the text must be, for people.
        schema: the same as JSON schema.
    """

    read: Callable[[str], Any]
    select: Callable[[Rows, Any], Rows]
    expected: str
    schema: dict[str, Any]

    def apply(self, rows: Rows, name: str, text: str) -> Rows:
        """The rows that the parameter asks for.

        Raises:
            ValidationError: the text isn't a value of this parameter.
        """
        return self.select(rows, Parameter(self.read, self.expected, self.schema).value(name, text))


def _by(lookup: str) -> Callable[[Rows, Any], Rows]:
    return lambda rows, value: rows.filter(**{lookup: value})


def by_id(lookup: str) -> Filter:
    """Rows whose `lookup` is a number."""
    return Filter(_number, _by(lookup), "an id", {"type": "integer", "minimum": 1})


def by_text(lookup: str) -> Filter:
    """Rows whose `lookup` is this text."""
    return Filter(str, _by(lookup), "a text", {"type": "string", "maxLength": LONGEST})


def by_choice(lookup: str, choices: list[str]) -> Filter:
    """Rows whose `lookup` is one of a few words."""
    return Filter(_choice(choices), _by(lookup), f"one of {', '.join(choices)}", {"type": "string", "enum": choices})


def by_flag(select: Callable[[Rows, bool], Rows]) -> Filter:
    """Rows for `true` or `false`."""
    words = {"true": True, "false": False}
    choose = _choice(list(words))
    return Filter(lambda text: words[choose(text)], select, "true or false", {"type": "boolean"})


def by_moment(lookup: str) -> Filter:
    """Rows by a time in RFC 3339."""
    return Filter(a_moment, _by(lookup), "a time in RFC 3339", {"type": "string", "format": "date-time"})


def by_moment_as(select: Callable[[Rows, Any], Rows]) -> Filter:
    """Rows that a function selects by a time."""
    return Filter(a_moment, select, "a time in RFC 3339", {"type": "string", "format": "date-time"})


def by_row(select: Callable[[Rows, str, str], Rows]) -> Filter:
    """Rows about a row of a table, written as `table:id`."""

    def read(text: str) -> tuple[str, str]:
        table, colon, key = text.partition(":")
        if not colon:
            raise ValueError(text)
        return table, key

    return Filter(
        read, lambda rows, row: select(rows, *row), "table:id", {"type": "string", "pattern": "^[a-z_]+:[0-9]+$"}
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= (number := int(text)) < 2**63:
        raise ValueError(text)
    return number


def _choice(choices: list[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


def a_moment(text: str) -> Any:
    """The time that a text says.

    Raises:
        ValueError: it isn't one.
    """
    moment = read_moment(text)
    if moment is None:
        raise ValueError(text)
    return moment
