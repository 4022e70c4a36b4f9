"""Tells a person by e-mail that their sign-in has changed, so that they notice a change that isn't theirs.

The message says what was changed, when and from which address. It contains no link, code or other secret.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from administration import mail
from keys.product import NAME

TEXT = """{what}

User: {user}
Time: {at:%Y-%m-%d %H:%M} UTC
{address}
If it wasn't you, tell an owner of {name} at once.
"""

APP_ADDED = "An app for codes was set up as a second factor of your sign-in."
APP_REMOVED = "The app for codes was removed from your sign-in."
PASSKEY_ADDED = "A passkey was added to your sign-in."
PASSKEY_REMOVED = "A passkey was removed from your sign-in."
CODES_MADE = "New recovery codes were made for your sign-in. Older ones don't work any more."
CODE_USED = "A recovery code was used in place of your second factor."
FACTORS_REMOVED = "Someone else has removed all second factors and recovery codes from your sign-in."
PASSWORD_CHANGED = "Your password was changed."  # noqa: S105  (a sentence)
LINKED = "Your sign-in was linked to single sign-on."
UNLINKED = "The link of your sign-in to single sign-on was removed."


def tell(user: Any, what: str, address: str = "") -> None:
    """Send a sentence about a person's sign-in, once the change is committed.

    Args:
        address: where the change came from; empty for a command.
    """
    if not settings.EMAIL_HOST or not user.email:
        return
    place = f"From: {address}\n" if address else ""
    body = TEXT.format(what=what, user=user.get_username(), at=timezone.now(), address=place, name=NAME)
    message = EmailMessage(f"Your sign-in at {NAME} has changed", body, settings.EMAIL_FROM, [user.email])
    transaction.on_commit(lambda: mail.send(message, "a notice of a changed sign-in"))
