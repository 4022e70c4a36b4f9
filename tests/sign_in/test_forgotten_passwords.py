"""Forgotten passwords: who gets a link, how often, and what the page tells a stranger."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.sign_in import forgotten
from tests.support.signing_in import PASSWORD, actions, is_inside

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]


def test_a_new_password_does_not_pass_the_second_factor_by(
    client: Client, alice: User, app: Authenticator, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    said = [
        client.post(reverse("forgotten_password"), {"person": who}) for who in ("alice", "ALICE@example.com", "eve")
    ]
    forgotten.SENDER.submit(lambda: None).result()
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


def test_requests_for_a_new_password_are_counted_for_every_name(client: Client, alice: User, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    for who in (("alice", "alice@example.com"), ("nobody", "nobody")):
        statuses = [client.post(reverse("forgotten_password"), {"person": who[at % 2]}).status_code for at in range(6)]
        assert statuses == [200] * 5 + [429], who


def test_no_link_goes_to_people_of_single_sign_on_or_under_a_strangers_host(
    client: Client, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    User.objects.create_user("iris", "iris@example.com")
    client.post(reverse("forgotten_password"), {"person": "iris"})
    settings.ALLOWED_HOSTS = ["*"]
    User.objects.create_user("bob", "bob@example.com", PASSWORD)
    client.post(reverse("forgotten_password"), {"person": "bob"}, headers={"host": "evil.example"})
    forgotten.SENDER.submit(lambda: None).result()
    assert mailoutbox == []
