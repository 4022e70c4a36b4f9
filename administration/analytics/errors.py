"""The errors of the reports, in Anthropic's shape."""

from __future__ import annotations

import logging

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from rest_framework.exceptions import AuthenticationFailed

from administration.rest import errors as rest_errors
from keys import sign_in
from keys.errors import Unusable
from messages_api.server import errors, handler
from messages_api.server.errors import GatewayError
from usage.questions import NotWholeYet
from usage.request_ids import new_id

logger = logging.getLogger(__name__)

# Seconds after which sums that are made again may be whole.
SUMMING_SECONDS = 60


class WrongParameter(Unusable):
    """A parameter that can't be used; `name` is Anthropic's name of it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


def as_anthropic(error: Exception) -> GatewayError:
    """What a client is answered. An unknown exception gets a 500 without its words."""
    match error:
        case AuthenticationFailed():
            return errors.unauthenticated(str(error.detail), reason="no_credential")
        case PermissionDenied():
            return errors.forbidden(str(error), reason="scope")
        case rest_errors.RestError():
            return refused(error.status_code, str(error.detail))
        case sign_in.Refused():
            return refused(error.status, error.words, error.seconds)
        case NotWholeYet():
            return refused(503, str(error), SUMMING_SECONDS)
        case Unusable():
            return errors.invalid_request(str(error))
        case OperationalError() | InterfaceError():
            logger.warning("a report failed: the database can't be used (%s)", type(error).__name__)
            return refused(503, rest_errors.NO_DATABASE, rest_errors.RETRY_SECONDS)
    if (ours := errors.ours(error)) is not None:
        return ours
    logger.error("a report failed: %s", handler.place(error))
    return refused(500, rest_errors.FAILED)


def refused(status: int, message: str, retry_after: int | None = None) -> GatewayError:
    """An error of this status."""
    return GatewayError(status, errors.kind_of(status), message, reason="report", retry_after=retry_after)


def answer(status: int, message: str, retry_after: int | None = None) -> HttpResponse:
    """The answer to a request that reaches no report."""
    return errors.response(refused(status, message, retry_after), new_id())
