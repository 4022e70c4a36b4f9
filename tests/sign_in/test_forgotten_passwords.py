"""Forgotten passwords: who gets a link, how often, and what the page tells a stranger."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration import mail
from keys import sign_in
from keys.models import SignInCount
from tests.support.signing_in import PASSWORD, actions, is_inside

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]


def test_a_new_password_does_not_pass_the_second_factor_by(
    client: Client, alice: User, app: Authenticator, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    said = [
        client.post(reverse("forgotten_password"), {"person": who}) for who in ("alice", "ALICE@example.com", "eve")
    ]
    mail.SENDER.submit(lambda: None).result()
    assert len({answer.content for answer in said}) == 1
    assert [message.to for message in mailoutbox] == [["alice@example.com"]] * 2
    link = re.search(r"http://testserver(/invitation/\S+)", mailoutbox[0].body)
    assert link is not None
    page = client.get(link[1], follow=True)
    new = {"new_password1": PASSWORD + " new", "new_password2": PASSWORD + " new"}
    assert client.post(page.redirect_chain[-1][0], new).headers["location"] == reverse("admin:login")
    assert not is_inside(client)
    form = {"username": "alice", "password": PASSWORD + " new"}
    assert client.post(reverse("admin:login"), form).headers["location"] == reverse("mfa_authenticate")
    assert "asked for a new password" in actions()


@pytest.mark.usefixtures("alice")
def test_requests_for_a_new_password_are_counted_by_what_is_typed(client: Client, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    path = reverse("forgotten_password")
    for name in ("alice", "nobody"):
        typed = [name, f"{name}@example.com"] * 5 + [name.upper()]
        statuses = [client.post(path, {"person": text}).status_code for text in typed]
        assert statuses == [200] * 10 + [429], name
        SignInCount.objects.all().delete()


@pytest.mark.usefixtures("alice")
def test_requests_from_elsewhere_neither_flood_nor_show_nor_block_a_person(
    client: Client, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    path = reverse("forgotten_password")
    for number in range(sign_in.MAILS.failures + 3):
        answer = client.post(path, {"person": "alice"}, REMOTE_ADDR=f"198.51.{number}.1")
        assert answer.status_code == 200
    assert client.post(path, {"person": "nobody"}).content == answer.content
    mail.SENDER.submit(lambda: None).result()
    assert len(mailoutbox) == sign_in.MAILS.failures
    link = re.search(r"http://testserver(/invitation/\S+)", mailoutbox[0].body)
    assert link is not None
    assert "new password" in client.get(link[1], follow=True).content.decode().lower()


@pytest.mark.parametrize(
    ("host", "tls", "mails"),
    [
        ("testserver", False, 1),
        ("testserver:8000", False, 1),
        ("testserver:80", False, 1),
        ("testserver:8443", False, 1),
        ("testserver:31337", False, 0),
        ("localhost:8443", False, 0),  # an origin's port is of its host only
        ("testserver:8000", True, 0),
    ],
)
def test_a_link_leads_to_no_port_of_another_program(
    client: Client, alice: User, settings: Any, mailoutbox: list[Any], host: str, tls: bool, mails: int
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    settings.ALLOWED_HOSTS = ["testserver", "localhost"]
    own = {"port": 8000, "tls_in_front": tls, "trusted_origins": ["https://testserver:8443"]}
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update=own)
    client.post(reverse("forgotten_password"), {"person": "alice"}, headers={"host": host})
    mail.SENDER.submit(lambda: None).result()
    assert len(mailoutbox) == mails


def test_no_link_goes_to_people_of_single_sign_on_or_under_a_strangers_host(
    client: Client, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    User.objects.create_user("iris", "iris@example.com")
    client.post(reverse("forgotten_password"), {"person": "iris"})
    settings.ALLOWED_HOSTS = ["*"]
    User.objects.create_user("bob", "bob@example.com", PASSWORD)
    client.post(reverse("forgotten_password"), {"person": "bob"}, headers={"host": "evil.example"})
    mail.SENDER.submit(lambda: None).result()
    assert mailoutbox == []
