"""Values in providers' JSON, read without trust: a value of another type than the expected one counts as absent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeGuard

from usage.arbitration import clean


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value can be a number of tokens."""
    return type(value) is int and 0 <= value < 1 << 53


def is_reported(value: object) -> bool:
    """Whether a value is a number of tokens as providers write it: some write 7.0."""
    if type(value) is int:  # the usual case
        return 0 <= value < 1 << 53
    return isinstance(value, float) and value.is_integer() and 0 <= value < 1 << 53


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def integer(value: object) -> int:
    """A count; 0 for a value that can't be one."""
    if type(value) is int:  # the usual case; a boolean isn't one
        return value if 0 <= value < 1 << 53 else 0
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return 0
    return int(value) if 0 <= value < 1 << 53 else 0


def text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""
