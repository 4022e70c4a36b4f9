"""The trace that a client's request belongs to: `traceparent` of W3C Trace Context.

https://www.w3.org/TR/trace-context/ (Recommendation of November 2021), sections 3.2 and 3.3
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from messages_api.upstream.client import Headers

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"

# Version, trace, parent and flags. Versions after 00 may add more, after another hyphen.
WRITTEN = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1


class Parent(NamedTuple):
    """The caller's span: its trace and its own id in lower-case hex, and whether the caller records the trace."""

    trace_id: str
    span_id: str
    sampled: bool


def parent(headers: Headers) -> Parent | None:
    """The caller's span; None: the request has no `traceparent`, several, or one that isn't valid. Such a request
    begins a trace of its own, so nothing but hex digits of a caller's gets into a span or a line of the log.
    """
    given = [value for name, value in headers if name == TRACEPARENT]
    found = WRITTEN.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    return Parent(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & SAMPLED))


def continued(headers: Headers, given: Parent | None, trace_id: str, span_id: str, *, sampled: bool) -> Headers:
    """The headers with this span as the parent of what the provider does.

    Args:
        given: what `parent` returned. Without it, a `tracestate` belongs to no trace and isn't passed on.
    """
    dropped = (TRACEPARENT,) if given is not None else (TRACEPARENT, TRACESTATE)
    passed = [header for header in headers if header[0] not in dropped]
    passed.append((TRACEPARENT, f"00-{trace_id}-{span_id}-{sampled:02x}".encode()))
    return passed


def new_trace_id() -> str:
    return os.urandom(16).hex()


def new_span_id() -> str:
    return os.urandom(8).hex()
