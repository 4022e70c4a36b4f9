"""The pages of a person's own account: how they sign in, and where they are signed in."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import Login
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.views import ActivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, LoginWebAuthnView
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from administration import invitations
from administration.sign_in import second_factor, sessions, single_sign_on, sso_pages
from administration.sign_in.codes import left as codes_left
from keys import sign_in
from keys.uncached import framed


class SignIn(LoginView):
    """The sign-in page. A right password goes on to the second factor, if the person has one."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {
            "forgotten": invitations.may_be_mailed(self.request),
            "sso": sso_pages.name() if single_sign_on.is_on() else "",
            "passkeys": passkeys_work(self.request),
        }

    def form_valid(self, form: Any) -> HttpResponse:
        user, target = form.get_user(), self.get_success_url()
        if self.request.user.is_authenticated:  # the steps of a sign-in are for visitors
            logout(self.request)
        login = Login(user=user, redirect_url=target)
        response: HttpResponse = perform_password_login(self.request, {"username": user.get_username()}, login)
        return response


@require_POST
def cancel(request: HttpRequest) -> HttpResponse:
    """Give up a sign-in that waits for its second factor."""
    clear_login(request)
    return HttpResponseRedirect(reverse("admin:login"))


class PasskeySignIn(LoginWebAuthnView):  # type: ignore[misc]
    """Signs in with a passkey alone. The challenge is in a session, so beginnings are counted."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        sign_in.count_beginning(request.META["REMOTE_ADDR"])
        response: HttpResponse = super().get(request, *args, **kwargs)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        """Count any wrong answer, also none, before a session keeps the message. It names no person, so it counts for
        the network."""
        sign_in.count_failure("passkey", self.request.META["REMOTE_ADDR"])
        response: HttpResponse = super().form_invalid(form)
        return response


class SetUp:
    """What follows when a second factor is set up: this session has proved it, and all others end."""

    kind = ""
    request: HttpRequest

    def form_valid(self, form: Any) -> HttpResponse:
        """Set the second factor up."""
        first = not second_factor.has(self.request.user)
        response: HttpResponse = super().form_valid(form)  # type: ignore[misc]
        second_factor.note_proof(self.request, self.kind)
        if first and (ended := sessions.end_others(self.request)):
            messages.info(self.request, f"Your other sessions have ended: {ended}.")
        return response


class SetUpApp(SetUp, ActivateTOTPView):  # type: ignore[misc]
    """Sets up an app that shows codes."""

    kind = Authenticator.Type.TOTP


class SetUpPasskey(SetUp, AddWebAuthnView):  # type: ignore[misc]
    """Adds a passkey."""

    kind = Authenticator.Type.WEBAUTHN


@never_cache
@require_GET
@login_required
def account(request: HttpRequest) -> HttpResponse:
    """How the person signs in, and what the deployment demands."""
    factors = Authenticator.objects.filter(user_id=request.user.pk).order_by("created_at")
    recovery = factors.filter(type=Authenticator.Type.RECOVERY_CODES).first()
    context = {
        "title": "Your account",
        "app": factors.filter(type=Authenticator.Type.TOTP).first(),
        "passkeys": [(each, each.wrap().name) for each in factors.filter(type=Authenticator.Type.WEBAUTHN)],
        "codes_left": codes_left(recovery) if recovery else None,
        "demanded": second_factor.is_required_of(request.user) and not second_factor.is_proved_by_sso(request),
        "secured": second_factor.has(request.user),
        "sso": sso_pages.name() if single_sign_on.is_on() else "",
        "linked": single_sign_on.is_linked(request.user),
        "can_passkey": passkeys_work(request),
    }
    return framed(request, "admin/account/account.html", context)


def passkeys_work(request: HttpRequest) -> bool:
    """Whether browsers offer passkeys at this address: only with TLS or on localhost, and never at an IP address."""
    host = request.get_host().rpartition(":")[0] if ":" in request.get_host() else request.get_host()
    by_number = host.replace(".", "").isdigit() or host.startswith("[")
    return not by_number and (request.is_secure() or host == "localhost" or host.endswith(".localhost"))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def open_sessions(request: HttpRequest) -> HttpResponse:
    """The sessions of the person, each with a button that ends it."""
    found = sessions.of(request)
    if request.method == "POST":
        return end_sessions(request, found)
    rows = [(each, sessions.program(each.user_agent)) for each in found]
    context = {"title": "Your sessions", "sessions": rows, "hours": settings.CONFIGURATION.session_hours}
    return framed(request, "admin/account/sessions.html", context)


def end_sessions(request: HttpRequest, found: list[UserSession]) -> HttpResponse:
    """End the session with the posted number, or all others."""
    chosen = request.POST.get("session", "")
    if chosen == "others":
        ending = [each for each in found if not each.is_current()]
    else:
        ending = [each for each in found if str(each.pk) == chosen]
    current = any(each.is_current() for each in ending)
    sessions.end(request, ending)
    if current:
        return HttpResponseRedirect(reverse("admin:login"))
    messages.success(request, f"Sessions ended: {len(ending)}.")
    return HttpResponseRedirect(reverse("usersessions_list"))
