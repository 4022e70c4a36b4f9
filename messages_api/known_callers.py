"""Reports to the server that a request's caller is identified. Such a connection is never closed to make room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# The key in the scope's state under which the server puts its callback.
KNOWN = "known"


def note(scope: Mapping[str, Any]) -> None:
    """Report that the request's caller is identified."""
    known: Callable[[], None] | None = scope.get("state", {}).get(KNOWN)
    if known is not None:
        known()
