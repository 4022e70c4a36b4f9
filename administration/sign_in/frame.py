"""The look of allauth's pages: the frame of all other pages, and no cache that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from keys.uncached import kept_nowhere

View = Callable[..., HttpResponseBase]


def in_frame(view: View, title: str) -> View:
    """A view of allauth's, with the variables that the site's frame needs."""

    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if isinstance(response, TemplateResponse) and not response.is_rendered:
            frame = {**admin.site.each_context(request), "title": title}
            response.context_data = {**frame, **(response.context_data or {})}
        return kept_nowhere(response)

    return page
