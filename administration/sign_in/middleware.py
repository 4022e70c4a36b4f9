"""Middleware of sign-in: proving again who one is, and second factors that the deployment demands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.core.exceptions import ReauthenticationRequired
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import urlencode

from administration.sign_in import second_factor, sessions

# What a person reaches who has no second factor yet. With one, the same pages would replace it unproved.
SETTING_UP = {
    *("account", "mfa_index", "mfa_activate_totp", "mfa_add_webauthn", "mfa_view_recovery_codes"),
    *("mfa_generate_recovery_codes", "account_reauthenticate", "sign_in_again"),
}
# What everyone reaches: pages for visitors, and those that prove a second factor.
OPEN = {
    *("mfa_reauthenticate", "mfa_reauthenticate_webauthn", "mfa_authenticate", "mfa_login_webauthn"),
    *("single_sign_on", "openid_connect_callback", "admin:login", "admin:logout", "account_login"),
    *("home", "favicon.ico", "docs", "openapi", "rest_docs", "rest_openapi", "invitation", "admin:time_zone"),
    *("forgotten_password",),
}
# Programs use it with a token; a session counts for nothing there.
REST = "api/v1/"


class RecordedSessionMiddleware:
    """Has each session of a person in the table from which sessions are listed and ended.

    allauth records a session at the sign-in. A new password gives the session another key, without allauth's knowledge.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        # The REST API sets no user on a request whose token it refuses.
        if request.session.accessed and request.user is not None and request.user.is_authenticated:
            sessions.record(request)
        return response


class ReauthenticationMiddleware(MiddlewareMixin):
    """Leads a person who must prove again who they are to the page for it.

    allauth's own middleware would keep the body of a POST in the session, cookies included, and repeat it afterwards.
    This one comes before it, and leads back to the page.
    """

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        if not isinstance(error, ReauthenticationRequired):
            return None
        target = {"next": request.get_full_path() if request.method == "GET" else reverse("account")}
        if not request.user.is_authenticated:
            return HttpResponseRedirect(f"{reverse('admin:login')}?{urlencode(target)}")
        methods = get_adapter().get_reauthentication_methods(request.user)
        if not methods:
            raise PermissionDenied("Sign out, and sign in again, to change this.")
        return HttpResponseRedirect(f"{methods[0]['url']}?{urlencode(target)}")


class SecondFactorMiddleware(MiddlewareMixin):
    """Demands a second factor of the roles in SECOND_FACTOR_ROLES: set up, and proved in this session."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        match = request.resolver_match
        assert match is not None
        if match.view_name in OPEN or match.route.startswith(REST):
            return None
        user = request.user
        if not second_factor.is_required_of(user) or second_factor.is_proved_by_sso(request):
            return None
        if not second_factor.has(user):
            return None if match.view_name in SETTING_UP else HttpResponseRedirect(reverse("account"))
        if second_factor.is_proved(request):
            return None
        paths = {method["id"]: method["url"] for method in get_adapter().get_reauthentication_methods(user)}
        url = paths.get("mfa_reauthenticate") or paths["mfa_reauthenticate:webauthn"]
        target = request.get_full_path() if request.method == "GET" else reverse("admin:index")
        return HttpResponseRedirect(f"{url}?{urlencode({'next': target})}")
