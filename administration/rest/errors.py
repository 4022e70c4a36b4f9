"""The errors of the REST API: `{"error": {"code", "message", "fields"}}`. docs/rest.md lists the codes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from keys import sign_in
from keys.errors import Conflict, Unusable

logger = logging.getLogger(__name__)

# The codes by HTTP status, where an error has none of its own.
CODES = {
    400: "invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "timeout",
    409: "conflict",
    412: "stale",
    413: "too_large",
    415: "unsupported_media_type",
    422: "idempotency_key_reused",
    428: "if_match_required",
    429: "too_many_failures",
    500: "internal",
    503: "unavailable",
}
RETRY_SECONDS = 5
# Below this path, errors have this shape, also those of requests that reach no resource.
BELOW = "/api/"

NOT_FOUND = "There is nothing at this URL, or this token may not see it."
WRONG_METHOD = "This URL doesn't take this method. The Allow header lists those that it takes."
NO_DATABASE = "The database can't be used at the moment."
FAILED = "The gateway failed. Its log says why."


class RestError(exceptions.APIException):
    """An error with a status and a code."""

    def __init__(
        self, status_code: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, code or CODES[status_code])
        self.status_code = status_code
        self.code = code or CODES[status_code]
        self.headers = dict(headers or {})


def body(code: str, message: str, fields: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """An error's JSON. `fields` has the messages by the path of the member that each is about."""
    return {"error": {"code": code, "message": message, "fields": dict(fields or {})}}


def text(http_status: int, message: str) -> bytes:
    """An error as bytes, for an answer that doesn't pass Django."""
    return json.dumps(body(CODES.get(http_status, "invalid"), message)).encode()


def answer(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler. An unknown exception gets a 500 without its words, and a traceback in the log."""
    match error:
        case RestError():
            return _response(error.status_code, error.code, str(error.detail), headers=error.headers)
        case exceptions.ValidationError():
            return _invalid(dict(flattened(error.detail)))
        case Conflict():
            return _response(409, "conflict", str(error))
        case Unusable():
            return _response(
                400, "invalid", str(error), {name: list(texts) or [str(error)] for name, texts in error.fields.items()}
            )
        case ValidationError():
            messages = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
            return _invalid({name.replace("__all__", ""): texts for name, texts in messages.items()})
        case Http404():
            return _response(404, "not_found", NOT_FOUND)
        case PermissionDenied():
            return _response(403, "forbidden", str(error) or "This token may not do that.")
        case sign_in.Refused():
            code = "too_many_failures" if error.status == 429 else "unavailable"
            return _response(error.status, code, error.words, headers={"Retry-After": str(error.seconds)})
        case OperationalError() | InterfaceError():
            logger.warning("a REST request failed: the database can't be used (%s)", type(error).__name__)
            return _response(503, "unavailable", NO_DATABASE, headers={"Retry-After": str(RETRY_SECONDS)})
        case exceptions.APIException():
            headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {}
            return _response(
                error.status_code, CODES.get(error.status_code, "invalid"), str(error.detail), headers=headers
            )
    fault = DatabaseError.__name__ if isinstance(error, DatabaseError) else type(error).__name__
    logger.error("a REST request failed: %s", fault, exc_info=error)
    return _response(500, "internal", FAILED)


def flattened(detail: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Messages by path (`routes[0].weight`) from DRF's nested ones."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            if name == "non_field_errors":
                yield from flattened(inner, path)
            else:
                yield from flattened(
                    inner, f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}".lstrip(".")
                )
    elif isinstance(detail, list) and any(isinstance(each, Mapping | list) for each in detail):
        for number, inner in enumerate(detail):
            if inner:
                yield from flattened(inner, f"{path}[{number}]")
    elif detail:
        yield path, [str(each) for each in (detail if isinstance(detail, list) else [detail])]


UNKNOWN = "There is no such member."


def _invalid(fields: dict[str, list[str]]) -> Response:
    whole = fields.pop("", [])
    unknown = [path for path, texts in fields.items() if UNKNOWN in texts]
    if unknown:
        return _response(400, "unknown_members", f"There are no such members: {', '.join(sorted(unknown))}.", fields)
    said = [*whole, *(f"{path}: {text}" for path, texts in fields.items() for text in texts)]
    return _response(400, "invalid", " ".join(said) or "The request is invalid.", fields)


def _response(
    http_status: int,
    code: str,
    message: str,
    fields: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(body(code, message, fields), status=http_status, headers=dict(headers or {}))
