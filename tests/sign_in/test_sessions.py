"""A person's sessions: listed, ended from elsewhere, and ended with time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.sign_in import lost, sessions
from tests.support.signing_in import PASSWORD, actions, code, give_password, is_inside

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]


def test_sessions_are_listed_and_ended(client: Client, alice: User) -> None:
    other = Client(headers={"user-agent": "Other browser"})
    give_password(client)
    give_password(other)
    shown = client.get(reverse("usersessions_list"))
    assert "Other browser" in shown.content.decode()
    (session,) = [each for each, program in shown.context["sessions"] if program == "Other browser"]
    stranger = Client()
    stranger.force_login(User.objects.create_superuser("eve"), "django.contrib.auth.backends.ModelBackend")
    stranger.post(reverse("usersessions_list"), {"session": session.pk})
    assert is_inside(other)
    client.post(reverse("usersessions_list"), {"session": session.pk})
    assert not is_inside(other)
    assert is_inside(client)
    assert actions().count("session ended") == 1
    assert session.session_key not in shown.content.decode()


@pytest.mark.usefixtures("alice")
def test_a_session_with_a_new_password_can_be_ended_from_elsewhere(client: Client) -> None:
    give_password(client)
    new = PASSWORD + " new"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post(reverse("admin:password_change"), form).status_code == 302
    assert is_inside(client)
    assert [each.session_key for each in UserSession.objects.all()] == [client.session.session_key]
    other = Client()
    other.post(reverse("admin:login"), {"username": "alice", "password": new})
    secret = other.get(reverse("mfa_activate_totp")).context["form"].secret
    other.post(reverse("mfa_activate_totp"), {"code": code(secret)})
    assert is_inside(other)
    assert not is_inside(client)


def test_a_session_that_is_not_recorded_is_from_its_next_page(client: Client, alice: User) -> None:
    client.force_login(alice, "django.contrib.auth.backends.ModelBackend")
    assert not UserSession.objects.exists()
    assert is_inside(client)
    lost.remove_second_factors(alice)
    assert not is_inside(client)


def test_the_upgrade_ends_sessions_that_are_not_recorded(client: Client, alice: User) -> None:
    give_password(client)
    older = Client()
    older.force_login(alice, "django.contrib.auth.backends.ModelBackend")
    migration = import_module("administration.migrations.0004_recorded_sessions")
    with connection.cursor() as cursor:
        cursor.execute(migration.UNRECORDED)
    assert is_inside(client)
    assert not is_inside(older)


@pytest.mark.usefixtures("alice")
def test_what_a_session_does_does_not_move_its_end(client: Client, settings: Any) -> None:
    give_password(client)
    end = Session.objects.get(session_key=client.session.session_key).expire_date
    assert end > timezone.now()
    client.get(reverse("mfa_activate_totp"))  # changes the session
    new = PASSWORD + " new"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post(reverse("admin:password_change"), form).status_code == 302
    now = Session.objects.get(session_key=client.session.session_key)
    assert now.expire_date == end
    assert int(client.cookies["sessionid"]["max-age"]) < settings.SESSION_COOKIE_AGE
    client.post(reverse("admin:login"), {"username": "alice", "password": new})
    assert Session.objects.get(session_key=client.session.session_key).expire_date > end


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/156.0 Safari/537.36 Edg/156.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Version/19 Safari/605.1.15", "Safari on macOS"),
        ("curl/8.0", "curl/8.0"),
        ("", "An unknown program"),
    ],
)
def test_a_session_says_in_words_where_it_is(user_agent: str, words: str) -> None:
    assert sessions.program(user_agent) == words
