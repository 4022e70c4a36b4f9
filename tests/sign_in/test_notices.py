"""E-mails that tell a person that their sign-in has changed."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from administration import invitations, mail, notices
from tests.support.signing_in import PASSWORD, SECRET, code, give_code, give_password

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]
NEW = PASSWORD + " new"
PASSWORDS = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}


class Refusing(EmailBackend):
    """A mail server that refuses everything."""

    def send_messages(self, messages: Any) -> int:
        raise smtplib.SMTPServerDisconnected("no")


@pytest.fixture
def notices_of(settings: Any, mailoutbox: list[Any], django_capture_on_commit_callbacks: Any) -> Any:
    """Does something, and returns the sentences that Alice got about it."""
    settings.EMAIL_HOST = "mail.example.com"

    def notices_of(do: Any) -> list[str]:
        mailoutbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            do()
        mail.SENDER.submit(lambda: None).result()
        assert all(message.to == ["alice@example.com"] for message in mailoutbox)
        return [message.body.splitlines()[0] for message in mailoutbox]

    return notices_of


def add_passkey(user: User) -> Authenticator:
    return Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data={"name": "Key"})


def test_each_change_of_a_second_factor_makes_a_notice_without_a_secret(
    client: Client, alice: User, notices_of: Any, mailoutbox: list[Any]
) -> None:
    give_password(client)
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    set_up = {"code": code(secret)}
    assert notices_of(lambda: client.post(reverse("mfa_activate_totp"), set_up)) == [notices.APP_ADDED]
    assert secret not in mailoutbox[0].body
    assert "User: alice\n" in mailoutbox[0].body
    assert "From: 127.0.0.1\n" in mailoutbox[0].body
    assert notices_of(lambda: client.post(reverse("mfa_generate_recovery_codes"))) == [notices.CODES_MADE]
    unused = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES).wrap().get_unused_codes()
    other = Client()
    give_password(other)
    assert notices_of(lambda: give_code(other, unused[0])) == [notices.CODE_USED]
    assert not any(each in mailoutbox[0].body for each in unused)
    passkey = add_passkey(alice)
    removed = reverse("mfa_remove_webauthn", args=[passkey.pk])
    assert notices_of(lambda: client.post(removed)) == [notices.PASSKEY_REMOVED]
    assert notices_of(lambda: client.post(reverse("mfa_deactivate_totp"))) == [notices.APP_REMOVED]
    TOTP.activate(alice, SECRET)
    lose = lambda: call_command("remove_second_factors", "alice")  # noqa: E731
    assert notices_of(lose) == [notices.FACTORS_REMOVED]
    assert notices_of(lose) == []


def test_a_new_password_makes_a_notice_whichever_way_it_was_set(
    client: Client, alice: User, notices_of: Any, rf: Any
) -> None:
    give_password(client)
    assert notices_of(lambda: client.post(reverse("admin:password_change"), PASSWORDS)) == [notices.PASSWORD_CHANGED]
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    page = client.get(invitations.link(rf.get("/"), alice).removeprefix("http://testserver"), follow=True)
    path = page.redirect_chain[-1][0]
    assert notices_of(lambda: client.post(path, PASSWORDS)) == [notices.PASSWORD_CHANGED]
    wrong = PASSWORDS | {"new_password2": "another"}
    assert notices_of(lambda: client.post(path, wrong)) == []


def test_nothing_fails_without_a_mail_server_or_with_one_that_refuses(
    client: Client, alice: User, notices_of: Any, settings: Any, caplog: Any
) -> None:
    RecoveryCodes.activate(alice)
    give_password(client)
    settings.EMAIL_BACKEND = f"{__name__}.Refusing"
    assert notices_of(lambda: client.post(reverse("admin:password_change"), PASSWORDS)) == []
    assert "the mail server refused a notice of a changed sign-in (SMTPServerDisconnected)" in caplog.text
    settings.EMAIL_HOST, settings.EMAIL_BACKEND = "", "django.core.mail.backends.locmem.EmailBackend"
    back = {"old_password": NEW, "new_password1": PASSWORD, "new_password2": PASSWORD}
    assert notices_of(lambda: client.post(reverse("admin:password_change"), back)) == []
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
