"""A connection on which somebody known is calling is not closed to make room for others'; a stranger's may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Where a request's scope has, in its state, what tells the server that the caller is known.
KNOWN = "known"


def note(scope: Mapping[str, Any]) -> None:
    """The request's caller is known."""
    known: Callable[[], None] | None = scope.get("state", {}).get(KNOWN)
    if known is not None:
        known()
