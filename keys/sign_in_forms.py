"""The forms that check a password. Each limits attempts (keys/sign_in.py)."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm

from keys import sign_in


class SignInForm(AdminAuthenticationForm):
    """The form on the sign-in page."""

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not name or not password:
            return super().clean()
        assert self.request is not None
        with sign_in.counted(name, self.request.META["REMOTE_ADDR"]):
            return super().clean()


class PasswordForm(AdminPasswordChangeForm):
    """The form to change one's own password. It asks for the old one, so guesses at that are limited too."""

    address = ""

    def clean_old_password(self) -> str:
        with sign_in.counted(self.user.get_username(), self.address):
            return super().clean_old_password()
