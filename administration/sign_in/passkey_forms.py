"""The forms that take a passkey's answer, which comes from the browser as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.core import context
from allauth.mfa.webauthn import forms
from django import forms as django_forms
from django.core.exceptions import ValidationError

from keys import sign_in

WRONG = "The passkey was not accepted. Try again, or sign in another way."
NAME_LENGTH = 60


@contextmanager
def read() -> Iterator[None]:
    """Within this block, JSON of a wrong shape is an error of the form.

    Raises:
        ValidationError: the answer isn't a passkey's, or isn't correct.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise ValidationError(WRONG) from None


class NewPasskeyForm(forms.AddWebAuthnForm):  # type: ignore[misc]
    """Adds a passkey."""

    name = django_forms.CharField(label="Name", max_length=NAME_LENGTH, required=False)
    passwordless = django_forms.BooleanField(
        label="Sign in with this passkey alone",
        required=False,
        help_text="It must then ask for your finger, face or PIN. Otherwise it is a second factor after the password.",
    )

    def clean(self) -> Any:
        with read():
            return super().clean()


class PasskeyForm(forms.AuthenticateWebAuthnForm):  # type: ignore[misc]
    """Takes a passkey as the second factor. Wrong answers count as wrong codes do."""

    def clean_credential(self) -> Any:
        address = context.request.META["REMOTE_ADDR"]
        with sign_in.counted(self.user.get_username(), address, sign_in.CODES), read():
            return super().clean_credential()


class PasskeyAgainForm(PasskeyForm):
    """The same for a person who is signed in."""

    reauthenticated = True


class PasskeyAloneForm(forms.LoginWebAuthnForm):  # type: ignore[misc]
    """Signs in with a passkey alone."""

    def clean_credential(self) -> Any:
        with read():
            return super().clean_credential()


class PasskeyNameForm(forms.EditWebAuthnForm):  # type: ignore[misc]
    """Renames a passkey."""

    name = django_forms.CharField(label="Name", max_length=NAME_LENGTH)
