"""What the server and the API say to each other about a request's client, beside ASGI: that it is identified (such a
connection is never closed to make room), and that it has disconnected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

# The keys in the scope's state under which the server puts its callbacks: one to call, and one that takes a function to
# call if the client disconnects. Without the latter, a task has to wait for ASGI's message, for every call.
KNOWN = "known"
LEAVES = "leaves"


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
