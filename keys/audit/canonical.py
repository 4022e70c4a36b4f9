"""The canonical form of an event, over which seals are made: a line of JSON. Other programs can make it too.

It is an array of the columns in the order of `COLUMNS`, as UTF-8, without spaces and with the keys of objects sorted by
code point. The time is in UTC with six digits of the second: `2026-11-29T16:05:09.000123+00:00`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

COLUMNS = (
    *("id", "at", "actor_kind", "actor_id", "actor", "address"),
    *("action", "table_name", "object", "about", "changes"),
)
AT = COLUMNS.index("at")

Row = Sequence[Any]


def encode(row: Row) -> bytes:
    """The line of an event, without a line break; `row` has its columns in order."""
    values = list(row)
    values[AT] = values[AT].astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(line: bytes) -> list[Any]:
    """The columns of an event, from its line."""
    values: list[Any] = json.loads(line)
    values[AT] = datetime.fromisoformat(values[AT])
    return values


def leaf(row: Row) -> bytes:
    """The digest of one event: SHA-256 of its line, 32 bytes."""
    return hashlib.sha256(encode(row)).digest()
