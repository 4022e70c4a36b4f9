"""The page on which a person changes their own password."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import site
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from administration import notices
from keys.sign_in_forms import PasswordForm


class PasswordView(PasswordChangeView):
    form_class = PasswordForm

    def get_form(self, form_class: Any = None) -> Any:
        form: Any = super().get_form(form_class)
        form.address = self.request.META["REMOTE_ADDR"]
        return form

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        notices.tell(form.user, notices.PASSWORD_CHANGED, self.request.META["REMOTE_ADDR"])
        return response


def change_password(request: HttpRequest) -> HttpResponseBase:
    """The admin's page to change one's own password, with `PasswordForm`."""
    page = PasswordView.as_view(
        success_url=reverse("admin:password_change_done"), extra_context=site.each_context(request)
    )
    return page(request)
