"""Reports to the server that a request's caller is identified. Such a connection is never closed to make room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

# The key in the scope's state under which the server puts its callback.
KNOWN = "known"


def note(scope: Mapping[str, Any]) -> None:
    """Report that the request's caller is identified."""
    known: Callable[[], None] | None = scope.get("state", {}).get(KNOWN)
    if known is not None:
        known()


def from_threads(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The scope for an application that works in threads: the server's connections belong to the loop."""
    state = scope.get("state", {})
    if (known := state.get(KNOWN)) is None:
        return dict(scope)
    later = partial(asyncio.get_running_loop().call_soon_threadsafe, known)
    return {**scope, "state": {**state, KNOWN: later}}
