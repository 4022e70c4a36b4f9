"""The spans of a call (docs/traces.md): made once, when it has ended, from what it knows of itself.

Until then, a traced call only has ids. Spans have ids, names, counts and times: no key, no content, and of a caller's
or provider's own words only short ones. Attributes follow the semantic conventions for generative AI:
https://opentelemetry.io/docs/specs/semconv/gen-ai/anthropic/ (status: development; November 2026).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from keys.directory import KnownKey, KnownProviderKey
from messages_api.process.deployment import Deployment
from messages_api.process.span_export import CLIENT, INTERNAL, SERVER, Span, SpanExport, Value, span
from messages_api.relay.attempt import Attempt
from messages_api.server import trace_context
from messages_api.server.handler import ApiRequest
from messages_api.server.trace_context import Parent, new_span_id, new_trace_id
from messages_api.upstream.client import Headers
from usage.arbitration import Settlement
from usage.models import Status
from usage.request_ids import request_id

# The longest text of a caller or provider, in characters.
WORD = 200
# The conventions' names for what a call does and for who answers; others keep ours.
OPERATIONS = {"messages": "chat"}
PROVIDERS = {
    "azure": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
}
# Of an attempt's row, what the model read: the conventions' input includes what came from and went to the cache.
WRITTEN = ("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens")
FAILURES = frozenset((Status.FAILED.value, Status.INTERRUPTED.value))


class TracedCall(Protocol):
    """What a call shows of itself."""

    id: UUID
    key: KnownKey
    attempts: list[Attempt]
    shown: Attempt | None
    request: Any
    endpoint: Any
    http_request: ApiRequest
    began: float

    @property
    def model(self) -> str: ...
    @property
    def provider_key(self) -> KnownProviderKey: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


class Traces:
    """The traces of one process: which calls are in one, and where their spans go."""

    def __init__(self, configuration: Deployment) -> None:
        self.export = SpanExport(configuration)
        # As the sampler `parentbased_traceidratio`: of traces that begin here, those whose id is below this.
        self.below = round(configuration.otel_traces_sampler_arg * (1 << 64))

    def begin(self, headers: Headers) -> Trace:
        """The trace of a call: its caller's, or a new one."""
        given = trace_context.parent(headers)
        if given is not None:
            return Trace(self.export, given, given.trace_id, given.sampled)
        trace_id = new_trace_id()
        return Trace(self.export, None, trace_id, int(trace_id[16:], 16) < self.below)


def of(configuration: Deployment) -> Traces | None:
    """The traces of this process; None: the deployment has no collector, so there are none."""
    return Traces(configuration) if configuration.otel_exporter_otlp_endpoint else None


@dataclass(slots=True, eq=False)
class Trace:
    """One call's place in a trace.

    Attributes:
        given: the caller's span, if the request names one.
        sampled: its spans are recorded. If not, the provider still gets a `traceparent`, which says so.
        admitted_at: when the arbiter admitted it, by the monotonic clock; 0: it passed without the arbiter.
    """

    export: SpanExport
    given: Parent | None
    trace_id: str
    sampled: bool
    span_id: str = ""
    admitted_at: float = 0.0

    def __post_init__(self) -> None:
        self.span_id = new_span_id()

    def note_admitted(self) -> None:
        """Note that the arbiter has admitted the call."""
        self.admitted_at = time.monotonic()

    def sent(self, attempt: Attempt, headers: Headers) -> Headers:
        """The client's headers for an attempt, whose span is the parent of what the provider does."""
        attempt.span_id = new_span_id()
        return trace_context.continued(headers, self.given, self.trace_id, attempt.span_id, sampled=self.sampled)

    def committed(self) -> asyncio.Event | None:
        """The event by which the writer says that the call's settlement is written; None: it has no span."""
        return Committed(self) if self.sampled else None

    def end(self, call: TracedCall, status: str, settled: Settlement | None = None, error_type: str = "") -> None:
        """Make the call's spans once its last bytes are on their way."""
        if self.sampled:
            call.loop.call_soon(self._make, call, status, settled, error_type, time.monotonic(), since_1970())

    def _make(
        self,
        call: TracedCall,
        status: str,
        settled: Settlement | None,
        error_type: str,
        ended: float,
        offset: int,
    ) -> None:
        def at(moment: float) -> int:
            return int(moment * 1e9) + offset

        def inside(
            name: str,
            kind: int,
            times: tuple[int, int],
            about: Mapping[str, Value],
            own: str = "",
            failed: bool = False,
        ) -> Span:
            own = own or new_span_id()
            return span(self.trace_id, own, self.span_id, name, kind, times, about, failed=failed)

        # The id of a request has the millisecond in which it arrived.
        arrived = min((call.http_request.id.int >> 80) * 1_000_000, at(call.began))
        error_type = error_type or (settled.error_type if settled is not None else "")
        failed = is_failed(call, status)
        about = of_call(call, status, settled)
        if failed or status == Status.REFUSED_BY_PROVIDER.value:
            about["error.type"] = (error_type or status)[:WORD]
        parent = self.given.span_id if self.given is not None else ""
        name = f"{call.http_request.method} {call.endpoint.path}"
        spans = [
            span(self.trace_id, self.span_id, parent, name, SERVER, (arrived, at(ended)), about, failed=failed),
        ]
        if self.admitted_at:
            spans.append(inside("admission", INTERNAL, (at(call.began), at(self.admitted_at)), {}))
        rows = settled.attempts if settled is not None else []
        for number, attempt in enumerate(call.attempts):
            row = rows[number] if number < len(rows) else attempt.row or {}
            began = max(attempt.began, self.admitted_at) if number == 0 else attempt.began
            name, said = of_attempt(call, attempt, number, row, settled)
            wrong = said.get("error.type")
            if not wrong and failed and attempt is call.attempts[-1]:
                wrong = said["error.type"] = (error_type or status)[:WORD]
            times = at(began), at(attempt.ended or ended)
            spans.append(inside(name, CLIENT, times, said, attempt.span_id, bool(wrong)))
        self.export.put(spans)


class Committed(asyncio.Event):
    """Notes in a span how long a settlement took to be written. A settlement that is only spooled has none."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.asked_at = time.time_ns()

    def set(self) -> None:
        super().set()
        trace, times = self.trace, (self.asked_at, time.time_ns())
        trace.export.put([span(trace.trace_id, new_span_id(), trace.span_id, "settlement", INTERNAL, times, {})])


def since_1970() -> int:
    """What to add to the monotonic clock, in nanoseconds, for the time since 1970."""
    return time.time_ns() - time.monotonic_ns()


def is_failed(call: TracedCall, status: str) -> bool:
    """Whether the call failed by the rules for spans of servers: a mistake of the caller's is no failure."""
    if status == Status.REFUSED_BY_PROVIDER.value:
        return ((call.shown or call.attempts[-1]).http_status or 0) >= 500
    return status in FAILURES


def of_call(call: TracedCall, status: str, settled: Settlement | None) -> dict[str, Value]:
    """The attributes of a call's own span. Tokens are those of its attempts: backends add up all spans."""
    key = call.key
    about: dict[str, Value] = {
        "http.request.method": call.http_request.method or "",
        "http.route": call.endpoint.path,
        "bursar.request_id": request_id(call.id),
        "bursar.endpoint": call.endpoint.name,
        "bursar.status": status,
        "bursar.virtual_key.id": key.id,
        "bursar.virtual_key.name": key.name,
        "bursar.customer.id": key.customer,
        "bursar.attempts": len(call.attempts),
    }
    if key.team is not None:
        about["bursar.team.id"] = key.team
    if settled is not None:
        about["bursar.cost_usd"] = float(settled.cost)
        about["bursar.estimated"] = settled.estimated
        if settled.charge is not None:
            about["bursar.charge_usd"] = float(settled.charge)
    return about


def of_attempt(
    call: TracedCall, attempt: Attempt, number: int, row: Mapping[str, Any], settled: Settlement | None
) -> tuple[str, dict[str, Value]]:
    """The name and the attributes of an attempt's span. Args:
    row: how the ledger shows it; of a free call, empty.
    """
    provider_key, request = attempt.target.provider_key, call.request
    operation = OPERATIONS.get(call.endpoint.name, call.endpoint.name)
    model = (attempt.target.model or request.model)[:WORD]
    about: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDERS.get(provider_key.provider, provider_key.provider),
        "bursar.provider_key.name": provider_key.name,
    }
    if model:
        about["gen_ai.request.model"] = model
    if call.endpoint.name == "messages":
        about["gen_ai.request.stream"] = request.stream
        about["gen_ai.request.max_tokens"] = request.max_tokens
    parts = urlsplit(provider_key.base_url)
    if parts.hostname:
        about["server.address"] = parts.hostname
        about["server.port"] = parts.port or (80 if parts.scheme == "http" else 443)
    if number:
        about["http.request.resend_count"] = number
    if attempt.http_status is not None:
        about["http.response.status_code"] = attempt.http_status
    if attempt.provider_request_id:
        about["bursar.provider_request_id"] = attempt.provider_request_id[:WORD]
    if attempt.first_byte:
        about["gen_ai.response.time_to_first_chunk"] = attempt.first_byte - (attempt.sent_at or attempt.began)
    if wrong := row.get("error_type") or (attempt.http_status or 0) >= 400:
        about["error.type"] = str(attempt.http_status) if wrong is True else wrong[:WORD]
    about.update(of_usage(row))
    if settled is not None and attempt is (call.shown or call.attempts[-1]):
        if settled.model:
            about["gen_ai.response.model"] = settled.model[:WORD]
        if settled.stop_reason:
            about["gen_ai.response.finish_reasons"] = [settled.stop_reason[:WORD]]
    return f"{operation} {model}".strip(), about


def of_usage(row: Mapping[str, Any]) -> dict[str, Value]:
    """The tokens of an attempt. The conventions count cached tokens as input, too, which Anthropic's figure lacks."""
    created = sum(row.get(name, 0) for name in WRITTEN)
    read = row.get("cache_read_input_tokens", 0)
    counts = {
        "gen_ai.usage.input_tokens": row.get("input_tokens", 0) + read + created,
        "gen_ai.usage.output_tokens": row.get("output_tokens", 0),
        "gen_ai.usage.cache_read.input_tokens": read,
        "gen_ai.usage.cache_creation.input_tokens": created,
        "gen_ai.usage.reasoning.output_tokens": row.get("thinking_tokens", 0),
    }
    return {name: count for name, count in counts.items() if count}
