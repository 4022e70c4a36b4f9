"""Whose page it is: the session or token that a request sends, before anyone has looked whether it is valid."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from django.conf import settings

from administration.analytics.paths import is_report

Headers = Iterable[tuple[bytes, bytes]]
CREDENTIALS = (b"authorization", b"x-api-key")


def asker_of(scope: Any) -> bytes:
    """A digest of what a path's pages know their people by: a token, a member's session, or the session of a person who
    is signed in. Empty: the request has none. What the path doesn't read doesn't count: anyone can send more of it."""
    path: str = scope["path"]
    if path.startswith("/api/v1") or is_report(path):
        found = b"\n".join(value for name, value in scope["headers"] if name in CREDENTIALS)
        return hashlib.sha256(found).digest() if found else b""
    member = cookie_of(scope["headers"], settings.MEMBER_COOKIE_NAME) if path.startswith("/my") else b""
    return member or session_of(scope["headers"])


def session_of(headers: Headers) -> bytes:
    """A digest of the session's key in a request's cookies; empty if it has no such cookie."""
    return cookie_of(headers, settings.SESSION_COOKIE_NAME)


def cookie_of(headers: Headers, cookie_name: str) -> bytes:
    """A digest of a cookie; empty if a request doesn't have it."""
    for name, value in headers:
        if name == b"cookie":
            with contextlib.suppress(CookieError):
                cookie = SimpleCookie(value.decode("latin-1")).get(cookie_name)
                if cookie:
                    return hashlib.sha256(cookie.value.encode()).digest()
    return b""
