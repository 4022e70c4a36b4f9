"""The gateway's own errors, in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

Types and statuses are Anthropic's: https://docs.claude.com/en/api/errors
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.exceptions import APIException

from usage.request_ids import request_id

Headers = Sequence[tuple[bytes, bytes]]

# `error.type` by status. All other statuses are an `invalid_request_error` or an `api_error`.
KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# The message to a client whose stream ends with an error that the provider doesn't explain.
STREAM_ENDED_EARLY = "The provider ended its answer too early."
# The message to a client instead of a provider's words about the gateway's own key.
ACCOUNT_REFUSED = "The provider refuses the gateway's own key or account: inform an administrator of the gateway."


class GatewayError(APIException):
    """A refusal or failure of the gateway.

    Args:
        status: HTTP status.
        kind: Anthropic's `error.type`.
        message: for the client: which field is wrong, and what to do. It has no key and no content of a request.
        reason: a short constant for the log of refusals and its counts.
        retry_after: seconds after which a retry makes sense.
        retry: whether a retry ever makes sense, if the status doesn't say so; clients obey it.
        details: more for programs, in the error's JSON.
        headers: of the answer.
        facts: the values in a message that is in the customer's language: the log of refusals repeats it in others.
    """

    # The allowed methods, for a 405.
    allow = "POST"

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        reason: str,
        retry_after: int | None = None,
        retry: bool | None = None,
        details: dict[str, Any] | None = None,
        headers: Headers = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status
        self.kind = kind
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.retry = retry
        if retry is None and (retry_after is not None or status < 500):
            self.retry = retry_after is not None
        self.details = details
        self.headers = headers
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(type(self), reason=self.reason)
        return made, (self.status_code, self.kind, self.message), self.__dict__


def invalid_request(message: str, *, reason: str = "invalid_request", status: int = 400) -> GatewayError:
    """The request is wrong, and a retry of the same request fails again."""
    return GatewayError(status, "invalid_request_error", message, reason=reason)


def wrong_method(allowed: Iterable[str]) -> GatewayError:
    """The endpoint exists, but not with this method."""
    methods = [method for method in allowed if method != "OPTIONS"]
    error = invalid_request(f"This endpoint takes {' and '.join(methods)} only.", reason="method", status=405)
    error.allow = ", ".join(methods)
    return error


def unauthenticated(message: str, *, reason: str) -> GatewayError:
    """The credential is missing, unknown or no longer valid."""
    return GatewayError(401, "authentication_error", message, reason=reason)


def forbidden(message: str, *, reason: str) -> GatewayError:
    """The credential is valid, but may not do this."""
    return GatewayError(403, "permission_error", message, reason=reason)


def not_found(message: str, *, reason: str) -> GatewayError:
    return GatewayError(404, "not_found_error", message, reason=reason)


def unavailable(
    message: str, *, reason: str, retry_after: int | None = None, retry: bool | None = None, status: int = 503
) -> GatewayError:
    """A fault of the gateway or the provider, never a mistake of the client."""
    return GatewayError(status, "api_error", message, reason=reason, retry_after=retry_after, retry=retry)


def bad_gateway(message: str, *, reason: str) -> GatewayError:
    """The gateway can't reach the provider, or the provider didn't complete its answer."""
    return GatewayError(502, "api_error", message, reason=reason)


def broken_off() -> GatewayError:
    """The provider's answer ended too early."""
    return bad_gateway(
        "The provider closed the connection before its answer was complete.", reason="provider_broke_off"
    )


def timed_out() -> GatewayError:
    """The provider did not answer within the time-out of its key or of the deployment."""
    return GatewayError(504, "timeout_error", "The provider did not answer in time.", reason="provider_timeout")


def account_refused() -> GatewayError:
    """The providers refuse all provider keys that the call may use."""
    return unavailable(ACCOUNT_REFUSED, reason="provider_account", retry=False)


def over_budget(message: str, *, facts: dict[str, Any]) -> GatewayError:
    """The call may cost more than is left of a budget; a retry doesn't change that."""
    return GatewayError(429, "billing_error", message, reason="budget", retry=False, facts=facts)


def over_limit(message: str, *, retry_after: int, facts: dict[str, Any], headers: Headers = ()) -> GatewayError:
    """The call exceeds a rate limit for now."""
    return GatewayError(
        429, "rate_limit_error", message, reason="limit", retry_after=retry_after, headers=headers, facts=facts
    )


def interrupted(*, cut: bool) -> GatewayError:
    """The gateway ends the call: its key was revoked together with its open calls (`cut`), or the gateway stops."""
    if cut:
        return forbidden("This key was revoked.", reason="cut")
    return unavailable("The gateway is being restarted: try again.", reason="stopping", retry_after=1)


def overloaded() -> GatewayError:
    """More calls wait for admission than the deployment allows."""
    return GatewayError(
        529, "overloaded_error", "The gateway is overloaded: try again shortly.", reason="overloaded", retry_after=1
    )


def kind_of(status: int) -> str:
    """The `error.type` for a provider's status."""
    return KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")


def body(kind: str, message: str, call: UUID, details: dict[str, Any] | None = None) -> bytes:
    """The JSON of an error."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return json.dumps({"type": "error", "error": error, "request_id": request_id(call)}, ensure_ascii=False).encode(
        "utf-8", "replace"
    )


def event(kind: str, message: str, call: UUID) -> bytes:
    """An error as the last event of a stream."""
    return b"event: error\ndata: " + body(kind, message, call) + b"\n\n"


def response(error: GatewayError, call: UUID) -> HttpResponse:
    """An error as an answer. For clients, `x-should-retry` overrides the status."""
    answer = HttpResponse(
        body(error.kind, error.message, call, error.details), status=error.status_code, content_type="application/json"
    )
    answer["request-id"] = answer["x-bf-request-id"] = request_id(call)
    if error.retry is not None:
        answer["x-should-retry"] = "true" if error.retry else "false"
    if error.retry_after is not None:
        answer["retry-after"] = str(error.retry_after)
    for name, value in error.headers:
        answer[name.decode()] = value.decode()
    if error.status_code == 405:
        answer["allow"] = error.allow
    if error.status_code == 401:
        answer["www-authenticate"] = "Bearer"
    return answer


def ours(error: Exception) -> GatewayError | None:
    """A GatewayError for an exception of DRF's or Django's; None: the exception is a fault in the gateway."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, exceptions.UnsupportedMediaType):
        return invalid_request("The content type must be application/json.", reason="content_type", status=415)
    if isinstance(error, TooManyFieldsSent):
        return invalid_request("The query string has too many parameters.", reason="query")
    if isinstance(error, APIException) and error.status_code < 500:
        return invalid_request(str(error.detail), status=error.status_code)
    return None
