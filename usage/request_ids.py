"""Request ids: a UUIDv7 (RFC 9562) of the time of admission, shown as `req_bf_` and 32 hex digits."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import UUID

PREFIX = "req_bf_"

# The request that the current task or thread works for: every line of the log names it.
CURRENT: ContextVar[UUID | None] = ContextVar("request", default=None)


def new_id() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds since 1970, then random bits."""
    value = int.from_bytes(os.urandom(10), "big") | (time.time_ns() // 1_000_000) << 80
    return UUID(int=(value & ~(0xF << 76 | 0x3 << 62)) | 0x7 << 76 | 0x2 << 62)


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a point in time, to search a time range by id."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def moment(call: UUID) -> datetime:
    """The time in a UUIDv7."""
    return datetime.fromtimestamp((call.int >> 80) / 1000, UTC)


def request_id(call: UUID) -> str:
    """A call's id as people see it: `req_bf_019ab…`."""
    return PREFIX + call.hex


def parse(text: str) -> UUID:
    """Parse a request id as shown, or a plain UUID.

    Raises:
        ValueError: the text is neither.
    """
    return UUID(text.strip().removeprefix(PREFIX))
