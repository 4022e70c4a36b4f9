"""Invitations: a link with which a person sets a password, once, within PASSWORD_RESET_TIMEOUT (three days).

The person who invites sees the link, once. Where the deployment has a mail server, it is also sent to the person.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from administration import mail, notices
from keys import sign_in
from keys.product import NAME

TEXT = """{inviter} has invited you to {name} at {host}.

Your user name is {user}. This link sets your password, once, within three days:

{link}

If you don't expect this, ignore this message.
"""


def link(request: HttpRequest, user: Any) -> str:
    """A new link for a person. It stops to work when the password is set, or the person signs in."""
    token = default_token_generator.make_token(user)
    path = reverse("invitation", args=[urlsafe_base64_encode(force_bytes(user.pk)), token])
    return request.build_absolute_uri(path)


def send(request: HttpRequest, user: Any, link: str) -> bool:
    """Send a person their link, once the change is committed.

    Returns:
        Whether it is sent: the person has an address, links may be mailed from here, and this person hasn't got as many
        as `sign_in.MAILS` lets.
    """
    if not user.email or not may_be_mailed(request) or not sign_in.count_mail(str(user.pk)):
        return False
    person: Any = request.user
    inviter = person.get_full_name() or person.get_username()
    body = TEXT.format(inviter=inviter, name=NAME, host=request.get_host(), user=user.get_username(), link=link)
    message = EmailMessage(f"Your invitation to {NAME}", body, settings.EMAIL_FROM, [user.email])
    transaction.on_commit(lambda: mail.send(message, "an invitation"))
    return True


def may_be_mailed(request: HttpRequest) -> bool:
    """Whether links may be sent: there is a mail server, and the host and port in the link are the gateway's.

    ALLOWED_HOSTS must name the host: one that only `*` permits could be a stranger's, who would get the link. At
    another port of the right host, another program could get it.
    """
    named = [host for host in settings.ALLOWED_HOSTS if host != "*"]
    host, port = split_domain_port(request.get_host())
    return bool(settings.EMAIL_HOST) and validate_host(host, named) and (not port or port in own_ports(request, host))


def own_ports(request: HttpRequest, host: str) -> set[str]:
    """The ports at which people reach the gateway under this host: the scheme's own, PORT unless TLS ends in front of
    it, and those of TRUSTED_ORIGINS."""
    origins = [urlsplit(origin) for origin in settings.CONFIGURATION.trusted_origins]
    ports = {str(origin.port) for origin in origins if origin.hostname == host and origin.port}
    ports.add("443" if request.is_secure() else "80")
    return ports if settings.CONFIGURATION.tls_in_front else ports | {str(settings.CONFIGURATION.port)}


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
