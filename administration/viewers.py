"""The viewer's time zone and locale.

The zone is a choice of the person, kept in a cookie of the browser. Its first value is the browser's own zone, which a
script sends from the sign-in page. The locale is the first of the browser's languages that Django knows.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import get_language_from_request
from django.views.decorators.http import require_http_methods

from keys import viewer
from keys.viewer import UTC, zones

YEAR = 365 * 24 * 3600


def zone_of(request: HttpRequest) -> str | None:
    """The zone that the viewer has chosen; None without a choice."""
    chosen = request.COOKIES.get(settings.TIME_ZONE_COOKIE_NAME, "")
    return chosen if chosen in zones() else None


class Middleware:
    """Shows each page as its viewer reads times and numbers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with viewer.viewing(zoneinfo.ZoneInfo(zone_of(request) or UTC), get_language_from_request(request)):
            response = self.get_response(request)
            # Such a response is rendered after the middleware otherwise, when the zone is no longer active.
            if isinstance(response, TemplateResponse) and not response.is_rendered:
                response.render()
            return response


@require_http_methods(["GET", "HEAD", "POST"])
def choose_zone(request: HttpRequest) -> HttpResponse:
    """The page on which people choose their zone. It needs no sign-in, since the sign-in page sends the first one: its
    script, with `script`, which stays where it is."""
    error = ""
    if request.method == "POST":
        zone = request.POST.get("zone", "")
        if zone in zones():
            stays = "script" in request.POST
            response = HttpResponse(status=204) if stays else HttpResponseRedirect(reverse("admin:index"))
            response.set_cookie(
                settings.TIME_ZONE_COOKIE_NAME,
                zone,
                max_age=YEAR,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
            return response
        error = "Choose one of the zones in the list."
    context = admin.site.each_context(request) | {
        "title": "Your time zone",
        "zones": zones(),
        "chosen": zone_of(request) or UTC,
        "error": error,
    }
    return TemplateResponse(request, "admin/time_zone.html", context, status=400 if error else 200)
