"""The OpenAPI document: drf-spectacular puts it together from what is said of each view beside it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from messages_api.reference import messages, messages_pages, quota, stored, stored_pages

ABOUT = """The Anthropic Messages API, for the holders of virtual keys (`sk-bf-…`).

What is sent to a model of Anthropic's passes byte for byte, and so does the answer; members, blocks and headers that
this page doesn't know pass too. What is known to be wrong is refused before it costs anything. An answer has the
gateway's request id in `x-bf-request-id`; `request-id` is the provider's, where one was asked."""

SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A virtual key (`sk-bf-…`), a gateway token, or a provider's own key where the deployment lets "
        "those through.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as older SDKs send it.",
    },
    "virtualKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-bf-vk",
        "description": "The same, for clients that fill the other two.",
    },
}
# Clients are configured with any of these, and append /v1/… to it.
SERVERS = [{"url": url} for url in ("/", "/anthropic", "/pydanticai/anthropic", "/pydanticai")]

SETTINGS: dict[str, Any] = {
    "TITLE": "Messages gateway",
    "DESCRIPTION": ABOUT,
    "VERSION": "v1",
    "OAS_VERSION": "3.1.0",
    "SERVERS": SERVERS,
    "APPEND_COMPONENTS": {
        "schemas": messages.SCHEMAS | stored.SCHEMAS | quota.SCHEMAS,
        "securitySchemes": SECURITY_SCHEMES,
    },
    "SORT_OPERATIONS": False,
    # The one that there is moves enums into components, and one over another of the same name.
    "POSTPROCESSING_HOOKS": [],
}
# Swagger UI sets styles in place and carries its icons with it.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

PATTERNS = [*messages_pages.PATTERNS, *stored_pages.PATTERNS, *quota.PATTERNS]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    with patched_settings(SETTINGS):
        found: dict[str, Any] = SchemaGenerator(patterns=PATTERNS).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    for operation in (each for methods in found["paths"].values() for each in methods.values()):
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
    return found


def serve(request: HttpRequest) -> HttpResponse:
    """The document, for programs."""
    return HttpResponse(json.dumps(document(), ensure_ascii=False), content_type="application/json")


def show(request: HttpRequest) -> HttpResponse:
    """The document, for people. It loads nothing from elsewhere, and the browser sees to that."""
    page = render(request, "docs.html")
    page["content-security-policy"] = POLICY
    return page
