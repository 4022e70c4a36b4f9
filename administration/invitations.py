"""Invitations: a link with which a person sets a password, once, within PASSWORD_RESET_TIMEOUT (three days)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from administration import notices


def link(request: HttpRequest, user: Any) -> str:
    """A new link for a person. It stops to work when the password is set, or the person signs in."""
    token = default_token_generator.make_token(user)
    path = reverse("invitation", args=[urlsafe_base64_encode(force_bytes(user.pk)), token])
    return request.build_absolute_uri(path)


class Invitation(PasswordResetConfirmView):
    """The page that a link leads to. It moves the link's secret to the session before it shows anything."""

    template_name = "admin/invitation.html"
    title = "Set your password"

    def get_user(self, uidb64: str) -> Any:
        """The person who is invited, unless deactivated."""
        user = super().get_user(uidb64)
        return user if user is not None and user.is_active else None

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        notices.tell(form.user, notices.PASSWORD_CHANGED, self.request.META["REMOTE_ADDR"])
        return response

    def get_success_url(self) -> str:
        return reverse("admin:login")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        page = {**admin.site.each_context(self.request), **super().get_context_data(**kwargs)}
        return page | {"title": self.title}


def accept(request: HttpRequest, uidb64: str, token: str) -> HttpResponseBase:
    """Set a password."""
    return Invitation.as_view()(request, uidb64=uidb64, token=token)
