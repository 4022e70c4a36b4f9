"""The pages of errors: what happened, what to do next, and a way back. `refused.py` has that of a missing permission.

They have the site's frame for people who are signed in, and the frame of `/my/` for visitors and where the request or
the database can't be used. Programs that use the REST API get its errors instead.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin

from administration.analytics import errors as report_errors
from administration.analytics.paths import is_report
from administration.rest import errors
from keys.exports import UnknownFormat
from keys.product import NAME
from keys.uncached import kept_nowhere

TEMPLATE = "errors/page.html"


@dataclass(frozen=True)
class ErrorPage:
    """What a page of an error says.

    Attributes:
        said: what happened and what to do next, a paragraph each.
        for_programs: the message of the REST API.
    """

    status: int
    title: str
    said: tuple[str, ...]
    for_programs: str
    headers: Mapping[str, str] = field(default_factory=dict)


WRONG_HOST = ErrorPage(
    400,
    "This is not the gateway's address",
    (
        "The request names a host at which this gateway doesn't answer.",
        "Use the address that you were given. If it is this one, the person who runs the gateway adds its host to "
        "ALLOWED_HOSTS.",
    ),
    "The Host header names no host of this gateway.",
)
UNREADABLE = ErrorPage(
    400,
    "The request can't be read",
    (
        "Your browser sent something that the gateway can't read, such as a form with too many fields.",
        "Go back, reload the page, and try again with less.",
    ),
    "The request can't be read.",
)
MISSING = ErrorPage(
    404,
    "There is no such page",
    (
        "Nothing is at this address, or your roles don't include it.",
        "Check the address, or enter what you look for in the search box above.",
    ),
    errors.NOT_FOUND,
)
MISSING_FOR_VISITORS = ErrorPage(
    404,
    "There is no such page",
    ("Nothing is at this address.", "Check the address, or begin at the start page."),
    errors.NOT_FOUND,
)
TOO_OLD = ErrorPage(
    403,
    "The form was not accepted",
    (
        "Nothing was changed. The form was opened before you signed in or out, or another site has sent it.",
        "Go back, reload the page, and send the form again. If that doesn't help, the person who runs the gateway "
        "checks TRUSTED_ORIGINS and TLS_IN_FRONT.",
    ),
    "The form was not accepted.",
)
NO_COOKIE = ErrorPage(
    403,
    "The form was not accepted",
    (
        "Nothing was changed. Your browser has sent no cookie with the form.",
        "Allow cookies for this address. Then go back, reload the page, and send the form again.",
    ),
    "The form was not accepted.",
)
NO_PAGE_TO_OPEN = ErrorPage(
    405,
    "There is no page to open here",
    (
        "A button or a form sends to this address, and the address itself has nothing to show. Nothing was changed.",
        "Go back to the page with the button, and press it there.",
    ),
    errors.WRONG_METHOD,
)
NO_FORM_HERE = ErrorPage(
    405,
    "This page takes no form",
    ("Nothing was changed. The page can be opened, but nothing can be sent to it.", "Open the page, and begin there."),
    errors.WRONG_METHOD,
)
NO_DATABASE = ErrorPage(
    503,
    "The database can't be used",
    (
        "The gateway needs its database for this page, and can't use it at the moment.",
        "Try again in a moment. If you have sent a form, check whether it was saved before you send it again.",
    ),
    errors.NO_DATABASE,
    {"Retry-After": str(errors.RETRY_SECONDS)},
)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of requests that can't be read. It may come before the middleware that knows the person."""
    if isinstance(exception, UnknownFormat):
        said = (str(exception), "Go back to the page, and choose there how to export its table.")
        return framed(request, ErrorPage(400, "There is no such format", said, said[0]))
    return plain(request, WRONG_HOST if isinstance(exception, DisallowedHost) else UNREADABLE)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of URLs without a page, and of rows that don't exist for this person."""
    return framed(request, MISSING, MISSING_FOR_VISITORS)


class WrongMethodMiddleware(MiddlewareMixin):
    """Gives Django's empty answers to a method that a page doesn't take a page, and keeps their `Allow`."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not isinstance(response, HttpResponseNotAllowed):
            return response
        page = framed(request, NO_PAGE_TO_OPEN if request.method in ("GET", "HEAD") else NO_FORM_HERE)
        response.content = page.content
        for name, value in page.headers.items():
            response.headers[name] = value
        return response


def untrusted_form(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's view of a form whose CSRF token or origin is wrong."""
    return framed(request, NO_COOKIE if reason == REASON_NO_CSRF_COOKIE else TOO_OLD)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler of exceptions."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return plain(request, NO_DATABASE)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = (
        "The gateway couldn't make this page. The fault is in the gateway, and its log says more.",
        "Try again in a moment. If you have sent a form, check whether it was saved before you send it again.",
        f"If it happens again, send the person who runs the gateway this time: {now}.",
    )
    return plain(request, ErrorPage(500, "Something went wrong", said, errors.FAILED))


def framed(request: HttpRequest, page: ErrorPage, for_visitors: ErrorPage | None = None) -> HttpResponse:
    """A page in the frame of the person who is signed in, if one is."""
    if is_rest(request) or not is_signed_in(request):
        return plain(request, for_visitors or page)
    context = admin.site.each_context(request) | content(page, reverse("admin:index"), "Back to the overview")
    response = TemplateResponse(request, TEMPLATE, context | {"frame": "admin/base_site.html"}, status=page.status)
    return finished(response.render(), page)


def plain(request: HttpRequest, page: ErrorPage) -> HttpResponse:
    """A page that needs neither a readable request nor the database, or the error of a program's API."""
    if is_report(request.path):
        return finished(report_errors.answer(page.status, page.for_programs), page)
    if is_rest(request):
        text = errors.text(page.status, page.for_programs)
        return finished(HttpResponse(text, content_type="application/json", status=page.status), page)
    context = content(page, reverse("home"), "To the start page") | {"frame": "my/base.html", "product": NAME}
    return finished(HttpResponse(render_to_string(TEMPLATE, context), status=page.status), page)


def content(page: ErrorPage, url: str, way_back: str) -> dict[str, Any]:
    """The template's variables, except for those of a frame."""
    return {"title": page.title, "said": page.said, "back_url": url, "way_back": way_back}


def finished(response: HttpResponse, page: ErrorPage) -> HttpResponse:
    """The answer with its headers. No cache keeps it."""
    for name, value in page.headers.items():
        response.headers[name] = value
    return kept_nowhere(response)


def is_rest(request: HttpRequest) -> bool:
    """Whether the request is for the REST API."""
    return request.path.startswith(errors.BELOW)


def is_signed_in(request: HttpRequest) -> bool:
    """Whether a person is signed in who may see the site's pages."""
    return hasattr(request, "user") and admin.site.has_permission(request)
