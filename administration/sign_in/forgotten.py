"""Forgotten passwords: a page that sends a link by e-mail, where the deployment has a mail server.

The link is an invitation (administration/invitations.py). The page says the same to everyone, as fast, so that
strangers don't learn who has an account. When the person signs in with the new password, a second factor is asked for
as ever.
"""

from __future__ import annotations

import logging
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from administration import invitations, mail
from keys import sign_in
from keys.audit import notes
from keys.product import NAME
from keys.uncached import framed

logger = logging.getLogger(__name__)

TEXT = """Someone, probably you, has asked for a new password of the user {user} at {host}.

This link sets one, once, within three days:

{link}

If it wasn't you, ignore this message. The password stays as it is.
"""


class ForgottenForm(forms.Form):
    """Asks who forgot the password."""

    person = forms.CharField(
        label="User name or e-mail address",
        max_length=254,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autofocus": True}),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Ask who forgot a password, and send a link."""
    context: dict[str, Any] = {"title": "Forgotten password", "is_on": invitations.may_be_mailed(request)}
    form = ForgottenForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and context["is_on"] and form.is_valid():
        ask(request, form.cleaned_data["person"])
        return framed(request, "admin/account/forgotten.html", context | {"sent": True})
    return framed(request, "admin/account/forgotten.html", context | {"form": form})


def ask(request: HttpRequest, text: str) -> None:
    """Send a link to the one person who is meant, if there is one.

    A person who has got as many as `sign_in.MAILS` lets gets no more for now, and needs none: those links work.

    Raises:
        Refused: there were too many requests with this text, or from this network.
    """
    sign_in.count(text.casefold(), request.META["REMOTE_ADDR"], sign_in.RESETS)
    found = get_user_model()._default_manager.filter(Q(username=text) | Q(email__iexact=text), is_active=True)[:2]
    user = found[0] if len(found) == 1 else None
    # People of single sign-on, and those who haven't accepted their invitation yet, have no password to forget.
    if user is None or not user.email or not user.has_usable_password():
        logger.info("a new password was asked for, but there is no such person with a password and an address")
        return
    if not sign_in.count_mail(str(user.pk)):
        logger.warning("a new password was asked for too often: user %s gets no more links for now", user.pk)
        return
    notes.note("asked for a new password", notes.USERS, str(user.pk))
    body = TEXT.format(user=user.get_username(), host=request.get_host(), link=invitations.link(request, user))
    message = EmailMessage(f"A new password for {NAME}", body, settings.EMAIL_FROM, [user.email])
    mail.send(message, "a link for a forgotten password")
