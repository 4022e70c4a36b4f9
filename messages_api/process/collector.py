"""Where spans go: the collector that the standard environment variables of OpenTelemetry name.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS)
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from messages_api.upstream.client import Headers

PATH = "/v1/traces"
NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def traces_url(endpoint: str) -> str:
    """The URL for traces below a collector's address, like `http://localhost:4318`.

    Raises:
        ValueError: the address can't be used.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("expected the collector's address, like http://localhost:4318")
    return endpoint.rstrip("/") + PATH


def read_headers(text: str) -> Headers:
    """The headers that a collector wants with each request, from `name=value,name=value`; values are percent-encoded.

    Raises:
        ValueError: the text has another form. The message doesn't quote it, because it may have a secret.
    """
    found = []
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = (each.strip() for each in part.partition("="))
        value = unquote(value)
        if not equals or not NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ValueError("expected name=value,name=value, with values that are percent-encoded")
        found.append((name.lower().encode(), value.encode()))
    return found
