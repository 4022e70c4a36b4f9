"""The look of the pages of sign-in: the frame of all other pages, and no cache that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

View = Callable[..., HttpResponseBase]


def framed(request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    """A page in the site's frame."""
    response = TemplateResponse(request, template, {**admin.site.each_context(request), **context})
    response.headers["Cache-Control"] = "no-store"
    return response


def in_frame(view: View, title: str) -> View:
    """A view of allauth's, with the variables that the site's frame needs."""

    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if isinstance(response, TemplateResponse) and not response.is_rendered:
            frame = {**admin.site.each_context(request), "title": title}
            response.context_data = {**frame, **(response.context_data or {})}
        response.headers["Cache-Control"] = "no-store"
        return response

    return page
