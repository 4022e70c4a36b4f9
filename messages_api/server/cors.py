"""Which web pages may call the API from a browser: those of the deployment's `CORS_ORIGINS`.

https://fetch.spec.whatwg.org/#http-cors-protocol. Preflights are answered here, without a look at the database: they
carry no credential. Cookies are never allowed, because the API uses none.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Any

Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

ANY = "*"
# An origin as browsers write it: no path, no slash at the end, small letters.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
DEFAULT_PORTS = ("http", ":80"), ("https", ":443")
# The paths of the API, also below the prefixes in urls.py. The admin's and other pages are not among them.
PATHS = re.compile(r"/(?:anthropic/|pydanticai/anthropic/|pydanticai/)?v1(?:/.*)?", re.DOTALL)
METHODS = b"GET, HEAD, POST, DELETE"
# A list of header names that is safe to echo.
NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
LONGEST_NAMES = 8192
# Seconds for which a browser may cache a preflight; Chrome caches it for two hours at most.
MAX_AGE = b"7200"
VARY = (b"vary", b"Origin")
VARY_PREFLIGHT = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
# Headers of an answer that a page may read, by name or prefix. Browsers support no wildcard for the end of a name, so
# the names are listed for each answer.
EXPOSED = frozenset((b"request-id", b"x-should-retry", b"retry-after", b"retry-after-ms"))
EXPOSED_BEGINNINGS = (b"anthropic-", b"x-bf-")


def is_origin(value: str) -> bool:
    """Whether a browser can send this value as its `Origin`."""
    scheme = value.partition("://")[0]
    default = any(scheme == each and value.endswith(port) for each, port in DEFAULT_PORTS)
    return ORIGIN.fullmatch(value) is not None and not default


def allowing(origins: Collection[str], api: Application) -> Application:
    """The API with CORS for pages of these origins."""

    async def with_cors(scope: Any, receive: Receive, send: Send) -> None:
        if not PATHS.fullmatch(scope["path"]):
            await api(scope, receive, send)
            return
        given = dict(scope["headers"])
        allowed = allowance(origins, given.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"origin" in given and b"access-control-request-method" in given:
            answer = [*allowed, VARY_PREFLIGHT, *(preflight(given) if allowed else ())]
            await send({"type": "http.response.start", "status": 204, "headers": answer})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_allowed(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                more = [*allowed, VARY, *exposing(headers)] if allowed else [VARY]
                message = {**message, "headers": [*headers, *more]}
            await send(message)

        await api(scope, receive, send_allowed)

    return with_cors


def allowance(origins: Collection[str], origin: bytes | None) -> Headers:
    """The header that lets a page read an answer; empty: the page may not."""
    if origin is None:
        return []
    if ANY in origins:
        return [(b"access-control-allow-origin", b"*")]
    return [(b"access-control-allow-origin", origin)] if origin.decode("latin-1") in origins else []


def preflight(given: dict[bytes, bytes]) -> Headers:
    """The headers of a preflight's answer: a page may use these methods, and send all headers that it asks for."""
    allowed: Headers = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", MAX_AGE)]
    wanted = given.get(b"access-control-request-headers", b"").strip()
    if len(wanted) <= LONGEST_NAMES and NAMES.fullmatch(wanted):
        allowed.append((b"access-control-allow-headers", wanted))
    return allowed


def exposing(headers: Headers) -> Headers:
    """The header that lets a page read the headers that clients act on."""
    names = {name.lower() for name, _ in headers}
    exposed = sorted(name for name in names if name in EXPOSED or name.startswith(EXPOSED_BEGINNINGS))
    return [(b"access-control-expose-headers", b", ".join(exposed))] if exposed else []
