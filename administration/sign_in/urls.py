"""URLs of sign-in and of a person's own account, below /admin/. allauth knows most of them by these names."""

from __future__ import annotations

from allauth.account.views import ReauthenticateView
from allauth.mfa.base.views import authenticate, reauthenticate
from allauth.mfa.recovery_codes.views import generate_recovery_codes, view_recovery_codes
from allauth.mfa.totp.views import deactivate_totp
from allauth.mfa.webauthn.views import edit_webauthn, reauthenticate_webauthn, remove_webauthn
from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from administration.sign_in import forgotten, pages, sso_pages
from administration.sign_in.frame import View, in_frame

AGAIN = "Prove that it is you"


def to_account() -> View:
    """Leads to the account page, which shows what allauth has pages for."""
    return RedirectView.as_view(pattern_name="account")


urlpatterns = [
    path("login/", admin.site.login, name="account_login"),
    path("account/", pages.account, name="account"),
    path("account/forgotten/", forgotten.page, name="forgotten_password"),
    path("account/sessions/", pages.open_sessions, name="usersessions_list"),
    path("account/again/", in_frame(ReauthenticateView.as_view(), AGAIN), name="account_reauthenticate"),
    path("account/second-factor/", to_account(), name="mfa_index"),
    path("account/second-factor/sign-in/", in_frame(authenticate, "Second factor"), name="mfa_authenticate"),
    path("account/second-factor/cancel/", pages.cancel, name="cancel_sign_in"),
    path("account/second-factor/again/", in_frame(reauthenticate, AGAIN), name="mfa_reauthenticate"),
    path("account/app/", in_frame(pages.SetUpApp.as_view(), "Set up an app"), name="mfa_activate_totp"),
    path("account/app/remove/", in_frame(deactivate_totp, "Remove the app"), name="mfa_deactivate_totp"),
    path("account/recovery-codes/", in_frame(view_recovery_codes, "Recovery codes"), name="mfa_view_recovery_codes"),
    path(
        "account/recovery-codes/new/",
        in_frame(generate_recovery_codes, "New recovery codes"),
        name="mfa_generate_recovery_codes",
    ),
    path("account/passkeys/", to_account(), name="mfa_list_webauthn"),
    path("account/passkeys/add/", in_frame(pages.SetUpPasskey.as_view(), "Add a passkey"), name="mfa_add_webauthn"),
    path("account/passkeys/sign-in/", pages.PasskeySignIn.as_view(), name="mfa_login_webauthn"),
    path("account/passkeys/again/", in_frame(reauthenticate_webauthn, AGAIN), name="mfa_reauthenticate_webauthn"),
    path("account/passkeys/<int:pk>/", in_frame(edit_webauthn, "Rename a passkey"), name="mfa_edit_webauthn"),
    path(
        "account/passkeys/<int:pk>/remove/", in_frame(remove_webauthn, "Remove a passkey"), name="mfa_remove_webauthn"
    ),
    path("account/single-sign-on/", sso_pages.begin, name="single_sign_on"),
    path("account/single-sign-on/again/", sso_pages.again, name="sign_in_again"),
    path("account/single-sign-on/link/", sso_pages.go_on_to_link, name="single_sign_on_link"),
    path("account/single-sign-on/link/begin/", sso_pages.begin_link, name="single_sign_on_begin_link"),
    path("account/single-sign-on/unlink/", sso_pages.unlink, name="single_sign_on_unlink"),
    path("account/single-sign-on/finish/", sso_pages.finish, name="openid_connect_callback"),
]
