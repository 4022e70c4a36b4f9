"""The forms that look at a password: each counts its tries (keys/sign_in.py)."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import site
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from keys import sign_in


class SignInForm(AdminAuthenticationForm):
    """Of the page to sign in."""

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not name or not password:
            return super().clean()
        assert self.request is not None
        with sign_in.counted(name, self.request.META["REMOTE_ADDR"]):
            return super().clean()


class PasswordForm(AdminPasswordChangeForm):
    """Of the page to change one's own password, which asks for the old one."""

    address = ""

    def clean_old_password(self) -> str:
        with sign_in.counted(self.user.get_username(), self.address):
            return super().clean_old_password()


class PasswordView(PasswordChangeView):
    """The page to change one's own password."""

    form_class = PasswordForm

    def get_form(self, form_class: Any = None) -> Any:
        form: Any = super().get_form(form_class)
        form.address = self.request.META["REMOTE_ADDR"]
        return form


def change_password(request: HttpRequest) -> HttpResponseBase:
    """The admin's own page for it, with our form."""
    page = PasswordView.as_view(
        success_url=reverse("admin:password_change_done"), extra_context=site.each_context(request)
    )
    return page(request)
