"""Sends finished spans to a collector in the background: OTLP over HTTP, as JSON.

The queue is bounded. What doesn't fit, or what the collector refuses, is dropped, counted, and logged once a minute; no
call waits. https://opentelemetry.io/docs/specs/otlp/#otlphttp (1.5) has the format, and which statuses to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import msgspec

from keys.destinations import Destinations
from messages_api.process import collector
from messages_api.process.deployment import Deployment
from messages_api.upstream.client import UpstreamClient, UpstreamError, read_all, tls_context
from messages_api.upstream.lean import LeanClient

logger = logging.getLogger(__name__)

Span = dict[str, Any]
Value = str | bool | int | float | Sequence[str]

# Spans that wait at most; those of one request (a call has three or more); and seconds between requests.
MOST_WAITING = 4096
MOST_AT_ONCE = 256
EVERY = 1.0
# Seconds for one request, for the last ones when the process stops, and at most between tries.
PATIENCE = 10.0
LAST = 2.0
MOST_BETWEEN = 30.0
# Seconds between two lines of the log about dropped spans.
BETWEEN_LINES = 60.0
JSON = (b"content-type", b"application/json")
# Statuses after which the same spans are sent again.
AGAIN = frozenset((429, 502, 503, 504))
# Bytes of a collector's answer that are read.
MOST_ANSWER = 1 << 16

INTERNAL, SERVER, CLIENT = 1, 2, 3
FAILED = {"code": 2}


class Away(Exception):
    """The collector took nothing: the same spans are sent again. The message says why, for the log."""


class SpanExport:
    """The queue of one process, and the client that empties it."""

    def __init__(self, configuration: Deployment) -> None:
        self.url = collector.traces_url(configuration.otel_exporter_otlp_endpoint)
        self.headers = collector.read_headers(configuration.otel_exporter_otlp_headers)
        self.resource: dict[str, Value] = {
            "service.name": configuration.otel_service_name,
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
        # The deployment itself names the collector, so its address may be private. No proxy for providers is used.
        self.client: UpstreamClient = LeanClient(
            tls=tls_context(configuration.ca_bundle),
            destinations=Destinations([urlsplit(self.url).hostname or ""]),
            connect_seconds=PATIENCE,
            first_byte_seconds=PATIENCE,
        )
        self.waiting = deque[Span]()
        self.many = asyncio.Event()
        self.dropped = 0
        self.why = ""
        self.logged_at = -BETWEEN_LINES

    def put(self, spans: Iterable[Span]) -> None:
        """Queue spans. Those that don't fit are dropped."""
        for span in spans:
            if len(self.waiting) < MOST_WAITING:
                self.waiting.append(span)
            else:
                self._drop(1, self.why or "too many of them wait")
        if len(self.waiting) >= MOST_AT_ONCE:
            self.many.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        between = 0.0
        while True:
            if between:
                await asyncio.sleep(between)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.many.wait(), EVERY)
            try:
                await self.send_all()
                between, self.why = 0.0, ""
            except Away as error:
                between, self.why = min(max(2 * between, EVERY), MOST_BETWEEN), str(error)
            except Exception as error:
                # Whatever it is, calls go on, and spans are not worth a traceback a second.
                between, self.why = MOST_BETWEEN, type(error).__name__
            self.log()

    async def close(self) -> None:
        """Send what waits, for a short time, and close the connection."""
        why = "the process stops"
        try:
            async with asyncio.timeout(LAST):
                await self.send_all()
        except (Away, TimeoutError) as error:
            why = str(error) or why
        if self.waiting:
            self._drop(len(self.waiting), why)
            self.logged_at = -BETWEEN_LINES
        self.log()
        await self.client.close()

    async def send_all(self) -> None:
        """Send everything that waits.

        Raises:
            Away: what isn't sent still waits.
        """
        while self.waiting:
            # Spans leave the queue once they are sent: new ones are only added behind them.
            batch = list(islice(self.waiting, MOST_AT_ONCE))
            await self._send(batch)
            for _ in batch:
                self.waiting.popleft()
        self.many.clear()

    async def _send(self, batch: list[Span]) -> None:
        """Send these spans in one request.

        Raises:
            Away: the collector didn't take them, but may do so later.
        """
        body = msgspec.json.encode(request(self.resource, batch))
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self.client.send("POST", self.url, [JSON, *self.headers], body)
                try:
                    said = await read_all(answer.read, MOST_ANSWER, cut=True)
                finally:
                    answer.close()
        except TimeoutError:
            raise Away(f"the collector takes longer than {PATIENCE:g} seconds") from None
        except UpstreamError as error:
            raise Away(f"the collector can't be reached: {error.kind}") from None
        if answer.status in AGAIN:
            raise Away(f"the collector answers with HTTP {answer.status}")
        if not 200 <= answer.status < 300:
            self._drop(len(batch), f"the collector answers with HTTP {answer.status}")
        elif refused := rejected(said):
            self._drop(min(refused, len(batch)), "the collector rejects them")

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        self.why = why

    def log(self) -> None:
        """Log how many spans were dropped, at most once a minute."""
        now = time.monotonic()
        if self.dropped and now - self.logged_at >= BETWEEN_LINES:
            logger.warning("%d spans were dropped: %s", self.dropped, self.why or "too many of them waited")
            self.dropped, self.logged_at = 0, now


def rejected(body: bytes) -> int:
    """The number of spans that a collector did not take of a request that it accepted."""
    try:
        return int(msgspec.json.decode(body)["partialSuccess"]["rejectedSpans"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0


def request(resource: Mapping[str, Value], spans: list[Span]) -> dict[str, Any]:
    """The body of a request: `ExportTraceServiceRequest` as JSON."""
    scope = {"scope": {"name": "bursar"}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": attributes(resource)}, "scopeSpans": [scope]}]}


def span(
    trace_id: str,
    span_id: str,
    parent_id: str,
    name: str,
    kind: int,
    times: tuple[int, int],
    about: Mapping[str, Value],
    *,
    failed: bool = False,
) -> Span:
    """A span as JSON has it. Args:
    parent_id: empty: it is the first one of its trace.
    times: its start and its end, in nanoseconds since 1970.
    """
    start, end = times
    made: Span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(max(start, end)),
        "attributes": attributes(about),
        "flags": 1,
    }
    if parent_id:
        made["parentSpanId"] = parent_id
    if failed:
        made["status"] = FAILED
    return made


def attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": written(value)} for name, value in values.items()]


def written(value: Value) -> dict[str, Any]:
    """A value with its type. JSON has no exact 64-bit numbers, so whole ones are strings."""
    match value:
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
