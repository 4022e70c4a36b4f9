"""Answers that no cache keeps: neither the browser nor a proxy shows them to the next person."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

R = TypeVar("R", bound=HttpResponseBase)


def kept_nowhere(response: R) -> R:
    """Have no cache keep an answer."""
    response.headers["Cache-Control"] = "no-store"
    return response


def framed(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> TemplateResponse:
    """A page in the site's frame."""
    frame = admin.site.each_context(request)
    return kept_nowhere(TemplateResponse(request, template, {**frame, **context}, status=status))
