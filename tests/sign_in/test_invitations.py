"""Invitations: the link is shown once, and sent where mail is set up."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration import mail
from keys import sign_in
from tests.support.signing_in import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]
LINK = re.compile(r"http://testserver(/invitation/[^\s<]+)")
NEW = {"username": "grace", "email": "grace@example.com", "role": "auditor"}


@pytest.fixture
def owner(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("boss", first_name="Bo", last_name="Ss"))
    return client


@pytest.fixture
def committed(django_capture_on_commit_callbacks: Any) -> Any:
    """Sends a form, and waits for the e-mails that its commit sends; the page that answers."""

    def post(client: Client, path: str, form: Any = None) -> str:
        with django_capture_on_commit_callbacks(execute=True):
            answer = client.post(path, form)
        assert answer.status_code == 200
        mail.SENDER.submit(lambda: None).result()
        return answer.content.decode()

    return post


def test_an_invitation_is_mailed_and_its_link_is_shown_too(
    owner: Client, settings: Any, mailoutbox: list[Any], committed: Any
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    shown = committed(owner, reverse("admin:administration_person_add"), NEW)
    (message,) = mailoutbox
    assert message.to == ["grace@example.com"]
    assert "Bo Ss has invited you to Bursar at testserver." in message.body
    assert "An e-mail with this link goes to grace@example.com." in shown
    (link,) = LINK.findall(message.body)
    assert LINK.findall(shown) == [link]
    stranger = Client()
    page = stranger.get(link, follow=True)
    words = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    assert stranger.post(page.redirect_chain[-1][0], words).headers["location"] == reverse("admin:login")


@pytest.mark.parametrize(
    ("email", "server", "host"),
    [
        pytest.param("", "mail.example.com", "testserver", id="without an address"),
        pytest.param("grace@example.com", "", "testserver", id="without a mail server"),
        pytest.param("grace@example.com", "mail.example.com", "elsewhere.example", id="under a host of a stranger"),
    ],
)
def test_an_invitation_is_only_shown_where_no_mail_can_go(
    owner: Client, settings: Any, mailoutbox: list[Any], committed: Any, email: str, server: str, host: str
) -> None:
    settings.EMAIL_HOST, settings.ALLOWED_HOSTS = server, ["*", "testserver"]
    owner.defaults["HTTP_HOST"] = host
    shown = committed(owner, reverse("admin:administration_person_add"), NEW | {"email": email})
    assert mailoutbox == []
    assert "Copy this link now, and send it to grace." in shown


def test_a_person_is_not_flooded_with_invitations(
    owner: Client, settings: Any, mailoutbox: list[Any], committed: Any
) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    person = User.objects.create_user("grace", "grace@example.com")
    for _ in range(sign_in.MAILS.failures + 2):
        shown = committed(owner, reverse("admin:administration_person_invite", args=[person.pk]))
    assert len(mailoutbox) == sign_in.MAILS.failures
    assert "Copy this link now" in shown
