"""A collector of OpenTelemetry to test against."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import wait_until

TAKEN = whole(200, b"{}")


class Collector:
    """A collector's socket, and the spans that it received."""

    def __init__(self, server: Upstream) -> None:
        self.server = server

    def spans(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """The spans of a trace by name, once there are this many."""

        def found() -> list[dict[str, Any]]:
            mine = [span for span in self.all() if span["traceId"] == trace_id]
            return mine if len(mine) >= count else []

        spans: list[dict[str, Any]] = wait_until(found)
        assert len(spans) == count, [span["name"] for span in spans]
        return spans

    def all(self) -> list[dict[str, Any]]:
        """Every span, in the order in which they arrived."""
        return [
            span
            for seen in list(self.server.seen)
            for resource in json.loads(seen.body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
