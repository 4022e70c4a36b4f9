"""The line that the log has for each call, and for each refused request, if LOG_FORMAT is `json` (docs/logs.md).

It has ids, names, counts and times: no key, no content, and of a caller's or provider's own words only short ones.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol
from uuid import UUID

from keys.directory import KnownKey, KnownProviderKey
from messages_api.relay.attempt import Attempt
from messages_api.relay.traces import Trace
from messages_api.server.errors import GatewayError
from messages_api.server.handler import ApiRequest
from usage.arbitration import Settlement
from usage.request_ids import request_id
from usage.tokens import TOKEN_COLUMNS

logger = logging.getLogger(__name__)

# The longest text of a caller or provider, in characters.
WORD = 200
# Of an attempt, what the line repeats from the ledger row.
ATTEMPT = ("provider_key", "provider", "model", "http_status", "error_type", "provider_request_id", "duration_ms")


class LoggedCall(Protocol):
    """What a call shows of itself."""

    id: UUID
    key: KnownKey
    attempts: list[Attempt]
    standing: Any
    request: Any
    endpoint: Any
    trace: Trace | None

    @property
    def model(self) -> str: ...
    @property
    def provider_key(self) -> KnownProviderKey: ...


def wanted() -> bool:
    """Whether calls are logged. A process asks once, when it starts."""
    return logger.isEnabledFor(logging.INFO)


def settled(call: LoggedCall, end: Settlement) -> None:
    """Log a call that has a ledger row."""
    tokens = {name: count for name in TOKEN_COLUMNS if (count := getattr(end, name))}
    fields = {
        **about(call, end.status, end.duration_ms),
        "model": end.model[:WORD],
        "provider_request_id": end.provider_request_id,
        "http_status": end.http_status,
        "error_type": end.error_type[:WORD],
        "stop_reason": end.stop_reason[:WORD],
        "tokens": tokens,
        "cost_usd": f"{end.cost:f}",
        "estimated": end.estimated,
        "time_to_first_byte_ms": end.time_to_first_byte_ms,
        "attempts": [{name: row[name] for name in ATTEMPT if row.get(name) not in ("", None)} for row in end.attempts],
    }
    if end.charge is not None:
        fields["charge_usd"] = f"{end.charge:f}"
    logger.info("call", extra={"fields": fields})


def without_row(call: LoggedCall, status: str, seconds: float) -> None:
    """Log a call that has no ledger row: it costs nothing, or was withdrawn."""
    last = call.attempts[-1]
    fields = {
        **about(call, status, round(seconds * 1000)),
        "model": call.model[:WORD],
        "provider_request_id": last.provider_request_id[:WORD],
        "http_status": last.http_status,
        "attempts": len(call.attempts),
    }
    logger.info("call", extra={"fields": fields})


def about(call: LoggedCall, status: str, duration_ms: int) -> dict[str, Any]:
    """What the lines of all calls have."""
    key, provider_key = call.key, call.provider_key
    return {
        "request_id": request_id(call.id),
        **({} if call.trace is None else {"trace_id": call.trace.trace_id}),
        "endpoint": call.endpoint.name,
        "virtual_key": key.id,
        "virtual_key_name": key.name,
        "customer": key.customer,
        "team": key.team,
        "requested_model": call.request.model[:WORD],
        "stream": call.request.stream,
        "provider": provider_key.provider,
        "provider_key": provider_key.name,
        "status": status,
        "duration_ms": duration_ms,
    }


def refused(http: ApiRequest, error: GatewayError, endpoint: str) -> None:
    """Log a request that became no call. The gateway's message isn't repeated: `reason` says the same to programs."""
    fields = {
        "request_id": request_id(http.id),
        "endpoint": endpoint,
        "virtual_key": http.virtual_key,
        "credential": http.credential_hint,
        "requested_model": http.requested_model[:WORD],
        "status": "refused",
        "http_status": error.status_code,
        "error_type": error.kind,
        "reason": error.reason,
    }
    logger.info("refused", extra={"fields": fields})
