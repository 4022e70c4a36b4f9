"""The pages of single sign-on: to the provider and back."""

from __future__ import annotations

import hmac
import logging
import time
from dataclasses import asdict
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from administration import notices
from administration.sign_in import oidc, single_sign_on
from administration.sign_in.frame import View
from keys import sign_in
from keys.audit import notes
from keys.sign_in import PASSWORDS
from keys.uncached import framed

logger = logging.getLogger(__name__)

SESSION = "single_sign_on"
# Where the provider ends its own session, in the session.
ENDS_AT = "single_sign_on_ends_at"
SECONDS = 600
FAILED = "Signing in by single sign-on did not work. Try again; if it fails again, the gateway's log says why."


def needs_provider(view: View) -> View:
    """Without single sign-on, there is no such page."""

    @wraps(view)
    def page(request: HttpRequest) -> HttpResponseBase:
        if not single_sign_on.is_on():
            raise Http404
        return view(request)

    return page


@needs_provider
@never_cache
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    """Lead to the provider. A link, since the pages' policy lets no form lead to another site."""
    return lead(request, "sign in")


@needs_provider
@never_cache
@require_POST
@login_required
@reauthentication_required(app="allauth.socialaccount")  # type: ignore[untyped-decorator]
def begin_link(request: HttpRequest) -> HttpResponse:
    """Have a person who is signed in confirm that they link themselves. The page leads on by a link."""
    request.session[f"{SESSION}_link"] = time.time()
    return HttpResponseRedirect(reverse("single_sign_on_link"))


@needs_provider
@never_cache
@require_POST
@login_required
@reauthentication_required(app="allauth.socialaccount")  # type: ignore[untyped-decorator]
def unlink(request: HttpRequest) -> HttpResponse:
    """Remove the link of a person who can sign in with a password."""
    if single_sign_on.unlink(request.user):
        notices.tell(request.user, notices.UNLINKED, request.META["REMOTE_ADDR"])
        messages.success(request, f"You can't sign in with {name()} any more.")
    else:
        messages.error(request, "The link stays: you have no password, so it is your only way to sign in.")
    return HttpResponseRedirect(reverse("account"))


@needs_provider
@never_cache
@require_GET
@login_required
def go_on_to_link(request: HttpRequest) -> HttpResponse:
    """The page between: it leads to the provider, to link."""
    if "go" not in request.GET:
        context = {"title": "Link single sign-on", "provider": name()}
        return framed(request, "admin/account/link.html", context)
    if time.time() - request.session.pop(f"{SESSION}_link", 0) > SECONDS:
        return HttpResponseRedirect(reverse("account"))
    return lead(request, "link")


@needs_provider
@never_cache
@require_GET
@login_required
def again(request: HttpRequest) -> HttpResponse:
    """The page that has a person sign in again before a change of the account."""
    context = {"title": "Sign in again", "provider": name(), "next": safe(request.GET.get("next", ""))}
    return framed(request, "admin/account/again.html", context)


def lead(request: HttpRequest, purpose: str) -> HttpResponse:
    """Remember what begins, and lead to the provider."""
    sign_in.count_beginning(request.META["REMOTE_ADDR"])
    begun = oidc.Begun.new()
    try:
        page = oidc.address(begun, callback(request), again=request.user.is_authenticated)
    except oidc.SignInFailed as error:
        logger.warning("single sign-on can't begin: %s", error)
        messages.error(request, FAILED)
        return HttpResponseRedirect(home_of(request))
    request.session[SESSION] = {
        **asdict(begun),
        "at": time.time(),
        "purpose": purpose,
        "user": request.user.pk,
        "next": safe(request.GET.get("next", "")),
    }
    return HttpResponseRedirect(page)


@needs_provider
@never_cache
@require_GET
def finish(request: HttpRequest) -> HttpResponse:
    """Come back from the provider: sign in, or link."""
    kept: dict[str, Any] = request.session.pop(SESSION, {})  # once
    state = request.GET.get("state", "")
    if not kept or not hmac.compare_digest(kept["state"].encode(), state.encode(errors="replace")):
        return failed(request, "no sign-in of this browser has begun")
    if time.time() - kept["at"] > SECONDS:
        return failed(request, "the sign-in took longer than ten minutes")
    if "code" not in request.GET:
        return failed(request, f"the provider refused: {request.GET.get('error', '')[:60]!a}")
    if request.GET.get("iss", "").rstrip("/") not in ("", single_sign_on.provider()):
        return failed(request, "the answer is another provider's")
    begun = oidc.Begun(kept["state"], kept["nonce"], kept["verifier"])
    try:
        claims = oidc.claims(request.GET["code"], begun, callback(request))
        kept["ends_at"] = oidc.end_session_endpoint()
    except oidc.SignInFailed as error:
        return failed(request, str(error))
    if kept["user"] is not None and time.time() - auth_time(claims) > SECONDS:
        return failed(request, "the provider did not ask the person again")
    if kept["purpose"] == "link":
        return linked(request, kept, claims)
    return signed_in(request, kept, claims)


def signed_in(request: HttpRequest, kept: dict[str, Any], claims: dict[str, Any]) -> HttpResponse:
    """Sign the person in, with a second factor where there is one."""
    try:
        user = single_sign_on.person_of(claims, request.META["REMOTE_ADDR"])
    except single_sign_on.Unknown as error:
        return failed(request, "the person is unknown here", str(error))
    if not user.is_active:
        return failed(request, f"user {user.pk} is deactivated", single_sign_on.DEACTIVATED, user)
    said = {"provider": single_sign_on.provider()}
    if request.user == user:
        record_authentication(request, user, "socialaccount", reauthenticated=True, **said)
        return HttpResponseRedirect(kept["next"] or reverse("account"))
    if request.user.is_authenticated:
        logout(request)
    request.session[ENDS_AT] = kept["ends_at"]
    record_authentication(request, user, "socialaccount", **said)
    response: HttpResponse = perform_login(request, Login(user=user, redirect_url=kept["next"] or None))
    return response


def linked(request: HttpRequest, kept: dict[str, Any], claims: dict[str, Any]) -> HttpResponse:
    """Link the person who began this, and is still signed in."""
    if not request.user.is_authenticated or request.user.pk != kept["user"]:
        return failed(request, "another person has signed in meanwhile")
    try:
        single_sign_on.link(request.user, claims["sub"])
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        notices.tell(request.user, notices.LINKED, request.META["REMOTE_ADDR"])
        messages.success(request, f"You can sign in with {name()} now.")
    return HttpResponseRedirect(reverse("account"))


def way_out(request: HttpRequest) -> str:
    """The provider's page that ends the person's session there. Empty if this session did not begin by single sign-on,
    or the provider has no such page."""
    page: str = request.session.get(ENDS_AT, "") if single_sign_on.is_on() else ""
    return page and oidc.way_out(page, request.build_absolute_uri(reverse("admin:login")))


def failed(request: HttpRequest, why: str, words: str = FAILED, user: Any = None) -> HttpResponse:
    """Lead back to the sign-in page, with a note in both logs.

    Raises:
        Refused: the network has failed too often; the client must wait.
    """
    address = request.META["REMOTE_ADDR"]
    if user is None:
        sign_in.count_failure("single sign-on", address)
    else:
        notes.note(PASSWORDS.failed, notes.USERS, str(user.pk), by="single sign-on")
    logger.warning("single sign-on failed: %s", why)
    messages.error(request, words)
    return HttpResponseRedirect(home_of(request))


def home_of(request: HttpRequest) -> str:
    """Where a visitor or a person goes on."""
    return reverse("account" if request.user.is_authenticated else "admin:login")


def auth_time(claims: dict[str, Any]) -> float:
    """When the provider last asked the person, in seconds since 1970; 0 if it doesn't say."""
    at = claims.get("auth_time")
    return float(at) if isinstance(at, int | float) else 0.0


def callback(request: HttpRequest) -> str:
    """The address to which the provider leads back."""
    return request.build_absolute_uri(reverse("openid_connect_callback"))


def safe(url: str) -> str:
    """A page of this site; empty instead of any other."""
    return url if url and get_adapter().is_safe_url(url) else ""


def name() -> str:
    """What pages call the provider."""
    return str(settings.CONFIGURATION.oidc_name)
