"""The forms that ask for codes."""

from __future__ import annotations

from typing import Any

from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY, generate_totp_secret
from django import forms
from django.core.exceptions import ValidationError

from administration.sign_in import codes
from keys import sign_in
from keys.keyring import UnreadableSecret


def code_field(label: str) -> forms.CharField:
    """A field for a code, which phones fill in from the app."""
    attributes = {"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True, "size": 12}
    return forms.CharField(label=label, max_length=codes.LONGEST, widget=forms.TextInput(attrs=attributes))


class CodeForm(forms.Form):
    """Asks for a code of the app, or for a recovery code."""

    code = code_field("Code of your app, or a recovery code")
    reauthenticates = False

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        self.authenticator = codes.prove(self.user, code)
        return code

    def save(self) -> None:
        """Note in the session that the person has proved a second factor."""
        post_authentication(context.request, self.authenticator, reauthenticated=self.reauthenticates)


class CodeAgainForm(CodeForm):
    """The same for a person who is signed in."""

    reauthenticates = True


class AppForm(forms.Form):
    """Sets an app up: its first code proves that it has the secret.

    Until then, the secret is in the session, encrypted as it will be in the table.
    """

    code = code_field("Code that the app shows")

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        session, adapter = context.request.session, get_adapter()
        try:
            self.secret = adapter.decrypt(session[SECRET_SESSION_KEY]) if self.is_bound else ""
        except (KeyError, UnreadableSecret):
            self.secret = ""
        if not self.secret:
            self.secret = generate_totp_secret()
            session[SECRET_SESSION_KEY] = adapter.encrypt(self.secret)

    def clean_code(self) -> str:
        code = codes.FILLERS.sub("", self.cleaned_data["code"])
        with sign_in.counted(self.user.get_username(), context.request.META["REMOTE_ADDR"], sign_in.CODES):
            if not codes.is_of_app(self.secret, code) or not codes.spend(self.user.pk, code):
                raise ValidationError(codes.WRONG)
        return code
