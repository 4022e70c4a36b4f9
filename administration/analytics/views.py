"""Answers `GET /v1/organizations/analytics/usage` and `…/cost` for a token of the REST API."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import AuthenticationFailed

from administration import refused
from administration.analytics import errors, queries
from administration.analytics.pages import page_of
from administration.analytics.queries import Report
from administration.rest import authentication, scopes, tokens
from keys import credentials
from keys.uncached import kept_nowhere
from messages_api.server.errors import response, wrong_method
from usage.request_ids import new_id, request_id

SCOPE, PERMISSION = "usage", "usage.view_rollup"
ADVICE = "Send a token for programs (sk-ba-…) with the scope usage:read, as x-api-key or as Authorization: Bearer."


@csrf_exempt
def report(request: HttpRequest, report: Report) -> HttpResponse:
    """A page of a report. Cookies don't count here, so other sites can't use them."""
    call = new_id()
    try:
        if request.method not in ("GET", "HEAD"):
            raise wrong_method(("GET",))
        user = reader_of(request)
        answer: HttpResponse = JsonResponse(page_of(queries.read(report, request.GET), user, timezone.now()))
        answer["request-id"] = answer["x-bf-request-id"] = request_id(call)
    except Exception as error:
        answer = response(errors.as_anthropic(error), call)
    return kept_nowhere(answer)


def reader_of(request: HttpRequest) -> Any:
    """The person for whom a request's token acts, who may read reports.

    Raises:
        AuthenticationFailed: there is no valid token.
        PermissionDenied: the token or the person may not.
        RestError, sign_in.Refused: as `authentication.opened`.
    """
    sent = presented(request)
    if not sent:
        raise AuthenticationFailed(f"No credential was sent. {ADVICE}")
    if not any(text.startswith(tokens.PREFIX) for text in sent) and any(map(credentials.is_ours, sent)):
        raise AuthenticationFailed(f"A virtual key opens no reports. {ADVICE}")
    token = authentication.opened(request, sent)
    if not scopes.allow(token.scopes, SCOPE, write=False):
        raise PermissionDenied(f"This token lacks the scope {SCOPE}:read.")
    if not token.user.has_perm(PERMISSION):
        raise PermissionDenied(refused.sentence(PERMISSION))
    return token.user


def presented(request: HttpRequest) -> list[str]:
    """The credentials of a request, as Anthropic's clients send one: `x-api-key`, `Authorization: Bearer`, or both."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    found = [request.headers.get("X-Api-Key", ""), bearer if scheme.lower() == "bearer" else ""]
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))
