"""Who makes a request: `Authorization: Bearer sk-ba-…`. Cookies don't count here, so other sites can't use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from administration.models import ApiToken
from administration.rest import scopes, tokens
from administration.rest.errors import RestError
from keys import sign_in
from keys.audit import notes
from keys.errors import Unusable
from messages_api.server import known_callers

MISSING = "Send a token of this API: Authorization: Bearer sk-ba-…"
WRONG = "This token is unknown, expired or revoked."


def opened(request: HttpRequest, sent: Iterable[str]) -> ApiToken:
    """The first valid token among the credentials that a request has. Its use is noted. A request without one is
    counted for its network.

    Raises:
        AuthenticationFailed: none is valid.
        RestError: 403, the token's person lacks a second factor that is demanded.
        sign_in.Refused: this network has sent too many wrong tokens.
    """
    token = next(filter(None, map(tokens.find, sent)), None)
    address = request.META.get("REMOTE_ADDR", "")
    if token is None:
        sign_in.count_wrong_token(address)
        notes.note("failed to sign in", ApiToken._meta.db_table)
        raise AuthenticationFailed(WRONG)
    try:
        tokens.check_person(token.user)
    except Unusable as error:
        raise RestError(403, f"This token may do nothing for now: {error}.") from None
    tokens.note_use(token, address)
    if isinstance(request, ASGIRequest):
        known_callers.note(request.scope)
    return token


class TokenAuthentication(BaseAuthentication):
    """Finds the token and its person. Wrong tokens are counted for each network, and refused beyond an allowance."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken]:
        """The token's person, and the token.

        Raises:
            AuthenticationFailed: there is no token, or it isn't valid.
            RestError: 403, the person lacks a second factor that is demanded.
            sign_in.Refused: this network has sent too many wrong tokens.
        """
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise AuthenticationFailed(MISSING)
        token = opened(request._request, [text])
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """The header of a 401."""
        return "Bearer"


class ScopeAllows(BasePermission):
    """The token's scopes allow this resource. What the person may do is checked with each row."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the scopes suffice."""
        token: Any = request.auth
        write = request.method not in ("GET", "HEAD")
        scope = view.scope
        if not scope or scopes.allow(token.scopes, scope, write=write):
            return True
        self.message = f"This token lacks the scope {scope}:{'write' if write else 'read'}."
        return False
