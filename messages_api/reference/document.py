"""The OpenAPI document: drf-spectacular puts it together from what is said of each view beside it."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from keys.product import NAME, VERSION
from messages_api.reference import answers, messages, messages_pages, quota, stored, stored_pages
from messages_api.reference.parts import SECURITY
from messages_api.urls import PREFIXES

ABOUT = """The Anthropic Messages API, for the holders of virtual keys (`sk-bf-…`).

What is sent to a model of Anthropic's passes byte for byte, and so does the answer; members, blocks and `anthropic-…`
headers that this page doesn't know pass too. What is known to be wrong is refused before it costs anything. An answer
has the gateway's request id in `x-bf-request-id`; `request-id` is the provider's, where one was asked."""

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
# Operations are shown by these, in this order; those below a prefix have one for each prefix.
TAGS = {
    "messages": "Ask a model, or count what a question would take.",
    "message batches": "Ask many things at half the price, and read the answers later.",
    "files": "Keep files at the provider, to name them in messages.",
    "models": "Which models this key may use.",
    "quota": "What is left of this key's budgets and limits.",
}
SAME = "The same operations once more, for clients whose base URL ends in {prefix}: all do as those under /v1."

SETTINGS: dict[str, Any] = {
    "TITLE": NAME,
    "DESCRIPTION": ABOUT,
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This gateway."}],
    "APPEND_COMPONENTS": {
        "schemas": messages.SCHEMAS | answers.SCHEMAS | stored.SCHEMAS | quota.SCHEMAS,
        "securitySchemes": SECURITY_SCHEMES,
    },
    "SORT_OPERATIONS": False,
    # The one that there is moves enums into components, and one over another of the same name.
    "POSTPROCESSING_HOOKS": [],
}
PATTERNS = [*messages_pages.PATTERNS, *stored_pages.PATTERNS, *quota.PATTERNS]


Operation = dict[str, Any]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    with patched_settings(SETTINGS):
        found: dict[str, Any] = SchemaGenerator(patterns=PATTERNS).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    headers: dict[str, Any] = {}
    for operation in (each for methods in found["paths"].values() for each in methods.values()):
        if "requestBody" in operation:
            operation["requestBody"] |= {"required": True, "description": "What is asked for."}
        for response in operation["responses"].values():
            share_headers(response, headers)
    found["paths"] |= {
        path: methods for prefix in PREFIXES for path, methods in below("/" + prefix, found["paths"]).items()
    }
    found["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    found["tags"] += [
        {"name": tag(prefix), "description": SAME.format(prefix="/" + prefix.strip("/"))} for prefix in PREFIXES
    ]
    # The generator sorts them: the first is what clients should use.
    found["components"] |= {"headers": headers, "securitySchemes": SECURITY_SCHEMES}
    return found | {"security": SECURITY}


def share_headers(response: dict[str, Any], headers: dict[str, Any]) -> None:
    """Name the headers of an answer instead of describing them again: there are hundreds of answers."""
    for name, header in response.get("headers", {}).items():
        headers[name] = header
        response["headers"][name] = {"$ref": f"#/components/headers/{name}"}


def below(prefix: str, paths: dict[str, dict[str, Operation]]) -> dict[str, dict[str, Operation]]:
    """The same operations under a prefix, with names of their own."""
    name = prefix.strip("/").replace("/", "_")
    return {
        prefix.rstrip("/") + path: {
            method: operation | {"operationId": f"{name}_{operation['operationId']}", "tags": [tag(prefix)]}
            for method, operation in methods.items()
        }
        for path, methods in paths.items()
    }


def tag(prefix: str) -> str:
    """What the operations under a prefix are shown by: without slashes, which the page's own links are made of."""
    return "below " + prefix.strip("/").replace("/", "-")


@cache
def written() -> tuple[bytes, bytes]:
    """The document as JSON, and that compressed to a twentieth."""
    body = json.dumps(document(), ensure_ascii=False).encode()
    return body, gzip.compress(body, mtime=0)


def serve(request: HttpRequest) -> HttpResponse:
    """The document, for programs."""
    body, compressed = written()
    takes = "gzip" in request.headers.get("accept-encoding", "")
    answer = HttpResponse(compressed if takes else body, content_type="application/json")
    if takes:
        answer["content-encoding"] = "gzip"
    patch_vary_headers(answer, ["accept-encoding"])
    return answer


def show(request: HttpRequest) -> HttpResponse:
    """The document, for people. It loads nothing from elsewhere, and the browser sees to that."""
    return render(request, "docs.html")
