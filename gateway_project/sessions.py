"""The admin's sessions, in the database. A cookie that can't be a session key causes no query.

A person's session ends SESSION_HOURS after the sign-in, however it is used meanwhile.

A page that is asked for with a valid session has an identified caller, as a call with a key has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends import db
from django.core.handlers.asgi import ASGIRequest
from django.dispatch import receiver
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from messages_api.server import known_callers

KEY = re.compile(r"[a-z0-9]{32}")


class SessionStore(db.SessionStore):
    """Django's store, with a stricter check of keys: Django's accepts any text of eight characters."""

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and KEY.fullmatch(key) is not None


@receiver(user_logged_in)
def set_end(request: HttpRequest, **_: object) -> None:
    """Set the moment at which the session ends: without one, each change of the session would move its end."""
    request.session.set_expiry(timedelta(seconds=settings.SESSION_COOKIE_AGE))


class KnownVisitorMiddleware:
    """Tells the server who is signed in: it doesn't close the connection of a long page to make room for strangers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponseBase:
        asked = isinstance(request, ASGIRequest) and settings.SESSION_COOKIE_NAME in request.COOKIES
        if asked and request.user.is_authenticated:
            known_callers.note(request.scope)
        return self.get_response(request)
