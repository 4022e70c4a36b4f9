"""The OpenAPI document: drf-spectacular assembles it from the documented views in the modules beside this one."""

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
from messages_api.prefixes import PREFIXES
from messages_api.reference import answers, messages, messages_pages, quota, stored, stored_pages, usage
from messages_api.reference.parts import SECURITY

ABOUT = """The Anthropic Messages API, for the holders of virtual keys (`sk-bf-…`).

A request to one of Anthropic's models passes byte for byte, and so does the answer; members, blocks and `anthropic-…`
headers that this page doesn't list pass too. A request with a known mistake is refused before it costs anything.
An answer has the gateway's request id in `x-bf-request-id`; `request-id` is the provider's, if the gateway has called
one."""

SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A virtual key (`sk-bf-…`), a gateway token, or a provider's own key if the deployment accepts "
        "those.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same credential, as older SDKs send it.",
    },
    "virtualKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-bf-vk",
        "description": "The same credential, for clients that use the other two headers for something else.",
    },
}
# The groups of operations, in the order of the page. Each prefix has a group of its own.
TAGS = {
    "messages": "Send a request to a model, or count the tokens of a prompt.",
    "message batches": "Send many requests at half the price, and read the answers later.",
    "files": "Store files at the provider, and use them in messages by their ids.",
    "models": "The models that this key may use.",
    "quota": "How much is left of this key's budgets and limits, and what it has used.",
}
SAME = "The same operations for clients whose base URL ends in {prefix}. They behave as those under /v1."

SETTINGS: dict[str, Any] = {
    "TITLE": NAME,
    "DESCRIPTION": ABOUT,
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This gateway."}],
    "APPEND_COMPONENTS": {
        "schemas": messages.SCHEMAS | answers.SCHEMAS | stored.SCHEMAS | quota.SCHEMAS | usage.SCHEMAS,
        "securitySchemes": SECURITY_SCHEMES,
    },
    "SORT_OPERATIONS": False,
    # The default hook moves enums into components, where enums of the same name overwrite each other.
    "POSTPROCESSING_HOOKS": [],
}
PATTERNS = [*messages_pages.PATTERNS, *stored_pages.PATTERNS, *quota.PATTERNS, *usage.PATTERNS]


Operation = dict[str, Any]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    with patched_settings(SETTINGS):
        found: dict[str, Any] = SchemaGenerator(patterns=PATTERNS).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    headers: dict[str, Any] = {}
    for operation in (each for methods in found["paths"].values() for each in methods.values()):
        if "requestBody" in operation:
            operation["requestBody"] |= {"required": True, "description": "The request."}
        for response in operation["responses"].values():
            share_headers(response, headers)
    found["paths"] |= {
        path: methods for prefix in PREFIXES for path, methods in below("/" + prefix, found["paths"]).items()
    }
    found["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    found["tags"] += [
        {"name": tag(prefix), "description": SAME.format(prefix="/" + prefix.strip("/"))} for prefix in PREFIXES
    ]
    # The generator sorts the security schemes, but the first one must be the one that clients should use.
    found["components"] |= {"headers": headers, "securitySchemes": SECURITY_SCHEMES}
    return found | {"security": SECURITY}


def share_headers(response: dict[str, Any], headers: dict[str, Any]) -> None:
    """Replace the headers of an answer by references: the document has hundreds of answers."""
    for name, header in response.get("headers", {}).items():
        headers[name] = header
        response["headers"][name] = {"$ref": f"#/components/headers/{name}"}


def below(prefix: str, paths: dict[str, dict[str, Operation]]) -> dict[str, dict[str, Operation]]:
    """The operations under a prefix, with ids of their own."""
    name = prefix.strip("/").replace("/", "_")
    return {
        prefix.rstrip("/") + path: {
            method: operation | {"operationId": f"{name}_{operation['operationId']}", "tags": [tag(prefix)]}
            for method, operation in methods.items()
        }
        for path, methods in paths.items()
    }


def tag(prefix: str) -> str:
    """The tag of the operations under a prefix: without slashes, because the page uses tags in its links."""
    return "below " + prefix.strip("/").replace("/", "-")


@cache
def written() -> tuple[bytes, bytes]:
    """The document as JSON, and the same compressed."""
    return as_bytes(document())


def as_bytes(found: dict[str, Any]) -> tuple[bytes, bytes]:
    """A document as JSON, and the same compressed (a twentieth of the size)."""
    body = json.dumps(found, ensure_ascii=False).encode()
    return body, gzip.compress(body, mtime=0)


def serve(request: HttpRequest) -> HttpResponse:
    """Answer with the document as JSON."""
    return served(request, *written())


def served(request: HttpRequest, body: bytes, compressed: bytes) -> HttpResponse:
    """An answer with a document, compressed for clients that accept it."""
    takes = "gzip" in request.headers.get("accept-encoding", "")
    answer = HttpResponse(compressed if takes else body, content_type="application/json")
    if takes:
        answer["content-encoding"] = "gzip"
    patch_vary_headers(answer, ["accept-encoding"])
    return answer


def show(request: HttpRequest, title: str = "API reference") -> HttpResponse:
    """Answer with the page that displays the document beside it (`openapi.json`). The browser enforces that nothing
    loads from other servers."""
    return render(request, "docs.html", {"title": title})
