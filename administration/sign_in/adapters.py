"""Where allauth asks the project: what is encrypted, how a password is checked, and where a page may lead."""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from administration import notices
from administration.sign_in import single_sign_on
from keys import keyring, sign_in
from keys.product import NAME

# Shown for a session that came without a network, through a local socket.
NO_ADDRESS = "0.0.0.0"  # noqa: S104  (not to listen on)
# Messages of allauth that say what the page shows anyway.
SILENT = {"account/messages/logged_in.txt", "account/messages/logged_out.txt"}
# What allauth would send mails about.
NOTICES = {
    "mfa/email/totp_activated": notices.APP_ADDED,
    "mfa/email/totp_deactivated": notices.APP_REMOVED,
    "mfa/email/webauthn_added": notices.PASSKEY_ADDED,
    "mfa/email/webauthn_removed": notices.PASSKEY_REMOVED,
    "mfa/email/recovery_codes_generated": notices.CODES_MADE,
}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """People are added under People or by single sign-on, never by allauth's pages."""

    error_messages = DefaultAccountAdapter.error_messages | {"incorrect_password": "This password is not correct."}

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        """Refuse: the sign-in page has its own form, which counts attempts.

        Raises:
            PermissionDenied: always.
        """
        raise PermissionDenied

    def reauthenticate(self, user: Any, password: str) -> bool:
        """Whether this is the person's password. Wrong ones count as failures to sign in."""
        try:
            with sign_in.counted(user.get_username(), context.request.META["REMOTE_ADDR"]):
                if not user.check_password(password):
                    raise ValidationError("wrong")
        except ValidationError:
            return False
        return True

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Who has signed in a moment ago need not prove it again."""
        request = context.request
        records = get_authentication_records(request, request.user)
        return not records or time.time() - records[-1]["at"] >= app_settings.REAUTHENTICATION_TIMEOUT

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Besides allauth's: single sign-on, for people who have nothing else here."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if not methods and user.is_authenticated and single_sign_on.is_linked(user):
            methods = [
                {"id": "socialaccount", "description": "Sign in again", "url": reverse("sign_in_again")},
            ]
        return methods

    def get_login_stages(self) -> list[str]:
        return ["administration.sign_in.second_factor.Stage"]

    def is_safe_url(self, url: str) -> bool:
        """Whether a page may lead there: only to this site."""
        return url_has_allowed_host_and_scheme(url, allowed_hosts=None)

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponseBase:
        return HttpResponseRedirect(reverse("admin:login"))

    def get_client_ip(self, request: HttpRequest) -> str:
        """The client's address, from which the server has removed proxies (keys/client_address.py)."""
        try:
            return str(ip_address(request.META["REMOTE_ADDR"]))
        except ValueError:
            return NO_ADDRESS

    def send_notification_mail(
        self, template_prefix: str, user: Any, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Tell the person of a changed second factor, in our own words."""
        if (what := NOTICES.get(template_prefix)) is not None:
            notices.tell(user, what, self.get_client_ip(self.request))

    def add_message(
        self, request: HttpRequest, level: int, message_template: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        if message_template not in SILENT:
            super().add_message(request, level, message_template, *args, **kwargs)


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets of second factors are encrypted under the deployment's master keys."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "The passkey was not accepted. Try again, or sign in another way.",
    }

    def encrypt(self, text: str) -> str:
        return keyring.encrypt(text).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return keyring.decrypt(encrypted_text.encode())

    def get_totp_issuer(self) -> str:
        return f"{NAME} {context.request.get_host()}"

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())

    def _get_site_name(self) -> str:
        return NAME

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return "Passkey"
