"""The members of requests and answers: amounts as decimal strings, times in RFC 3339, and no unknown members."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import fields, serializers

from administration.rest.errors import UNKNOWN
from usage.budgets import MOST

CANT_BE_SET = "This member can't be set here."
# RFC 3339, section 5.6: date, time and offset.
RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*([Zz]|[+-]\d\d:\d\d)")
AMOUNT = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,12})?")
LONGEST_TEXT = 200


class Members(serializers.Serializer[Any]):
    """A JSON object. Members that it doesn't have, or that can't be set, are errors that name them.

    `FIXED` can be set on creation only.
    """

    FIXED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.partial:
            for name in self.FIXED:
                self.fields.pop(name, None)

    def to_internal_value(self, data: Any) -> Any:
        """The checked values.

        Raises:
            ValidationError: by member.
        """
        if isinstance(data, Mapping):
            settable = {name for name, field in self.fields.items() if not field.read_only}
            known = {*self.fields, *self.FIXED}
            faults = {str(name): [CANT_BE_SET if name in known else UNKNOWN] for name in data if name not in settable}
            if self._is_whole():
                faults |= {
                    name: [str(field.error_messages["required"])]
                    for name, field in self.fields.items()
                    if field.required and not field.read_only and name not in data
                }
            if faults:
                raise serializers.ValidationError(faults)
        values = super().to_internal_value(data)
        if self._is_whole():
            given = {field.source: field.default for field in self.fields.values() if field.default is not fields.empty}
            defaults = {name: default() if callable(default) else default for name, default in given.items()}
            return defaults | values
        return values

    def _is_whole(self) -> bool:
        """Whether this is an object within a change: the change may leave out members, but not those of the object."""
        return self.parent is not None and bool(getattr(self.root, "partial", False))


@extend_schema_field(
    {"type": "string", "format": "decimal", "pattern": r"^-?[0-9]{1,16}(\.[0-9]{1,12})?$", "examples": ["100", "0.25"]}
)
class Amount(serializers.Field[Decimal, Any, str, Any]):
    """A decimal number as a string, such as `"12.50"`: a JSON number may lose digits on its way."""

    def __init__(self, *, signed: bool = False, most: Decimal = MOST, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signed = signed
        self.most = most

    def to_internal_value(self, data: Any) -> Decimal:
        """The number.

        Raises:
            ValidationError: it isn't a string of digits, or is out of range.
        """
        if not isinstance(data, str) or not AMOUNT.fullmatch(data):
            raise serializers.ValidationError('Expected a decimal number as a string, such as "100" or "0.25".')
        amount = Decimal(data)
        if abs(amount) > self.most or (amount < 0 and not self.signed):
            raise serializers.ValidationError(
                f"Expected a number from {-self.most if self.signed else 0:f} to {self.most:f}."
            )
        return amount

    def to_representation(self, value: Decimal) -> str:
        """The number without zeros at its end."""
        return plain(value)


def plain(value: Decimal) -> str:
    """A decimal number as a string without an exponent and without zeros at its end."""
    return f"{value.normalize():f}"


@extend_schema_field({"type": "string", "format": "date-time", "examples": ["2027-01-31T18:00:00Z"]})
class Moment(serializers.Field[datetime, Any, str, Any]):
    """A point in time in RFC 3339; answers are in UTC."""

    def to_internal_value(self, data: Any) -> datetime:
        """The time, in UTC.

        Raises:
            ValidationError: it isn't such a time.
        """
        moment = read_moment(data)
        if moment is None:
            raise serializers.ValidationError("Expected a time in RFC 3339, such as 2027-01-31T18:00:00Z.")
        return moment

    def to_representation(self, value: datetime) -> str:
        """The time in UTC, with a `Z`."""
        return written(value)


def read_moment(text: object) -> datetime | None:
    """The time in UTC; None if the text is no time in RFC 3339."""
    parts = RFC_3339.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if parts is None:
        return None
    day, time, fraction, offset = parts.groups()
    try:
        return datetime.fromisoformat(
            f"{day}T{time}{fraction or ''}{offset.upper().replace('Z', '+00:00')}"
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def written(moment: datetime) -> str:
    """A time as answers have it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Text(serializers.CharField):
    """A short string; numbers are not taken for strings."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", LONGEST_TEXT)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The string.

        Raises:
            ValidationError: it is another type of value.
        """
        if not isinstance(data, str):
            self.fail("invalid")
        text: str = super().to_internal_value(data)
        return text


class Whole(serializers.IntegerField):
    """A whole number as a JSON number."""

    def to_internal_value(self, data: Any) -> int:
        """The number.

        Raises:
            ValidationError: it is another type of value, or out of range.
        """
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


class Flag(serializers.BooleanField):
    """`true` or `false`."""

    def to_internal_value(self, data: Any) -> bool:
        """The flag.

        Raises:
            ValidationError: it is another type of value.
        """
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


def number(**kwargs: Any) -> Whole:
    """The id of a row."""
    return Whole(min_value=1, max_value=2**63 - 1, **kwargs)


def texts(most: int = 200, **kwargs: Any) -> serializers.ListField:
    """A list of short strings, such as names of models."""
    return serializers.ListField(child=Text(), max_length=most, **kwargs)
