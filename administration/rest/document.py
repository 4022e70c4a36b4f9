"""The OpenAPI document of the REST API."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from administration.rest import urls
from keys.product import NAME, VERSION
from messages_api.reference.document import as_bytes, served

ABOUT = """For administrators' programs: everything that the admin's pages do. Tokens (`sk-ba-…`) are made in the admin,
under API tokens, or by `manage.py issue_api_token`. `docs/rest.md` explains pages, versions and repetitions.

A body's unknown members are an error. Amounts are decimal strings, times are RFC 3339 in UTC."""

SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of this API (`sk-ba-…`)."},
}
SETTINGS: dict[str, Any] = {
    "TITLE": f"{NAME}: REST API for administrators",
    "DESCRIPTION": ABOUT,
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This gateway."}],
    "SORT_OPERATIONS": True,
    "COMPONENT_SPLIT_REQUEST": True,
    "APPEND_COMPONENTS": {"securitySchemes": SECURITY_SCHEMES},
    "POSTPROCESSING_HOOKS": [],
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    patterns = [path("api/v1/", include(urls.documented))]
    with patched_settings(SETTINGS):
        found: dict[str, Any] = SchemaGenerator(patterns=patterns).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    for name, schema in found["components"]["schemas"].items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False
    return found


@cache
def written() -> tuple[bytes, bytes]:
    """The document as JSON, and the same compressed."""
    return as_bytes(document())


def serve(request: HttpRequest) -> HttpResponse:
    """Answer with the document as JSON."""
    return served(request, *written())
