"""Administrators of a running gateway, signed in without a password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.contrib.admin.models import LogEntry
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection


def session_of(person: User, **more: object) -> SessionStore:
    """A new session of a person, with more values."""
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(person.pk), "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.update(more)
    session.create()
    return session


def cookies_of(person: User, **more: object) -> dict[str, str]:
    """The cookies of a browser in which a person is signed in."""
    return {"sessionid": str(session_of(person, **more).session_key)}


@contextlib.contextmanager
def signed_in(name: str = "boss") -> Iterator[dict[str, str]]:
    """The cookies of a superuser, who is deleted afterwards."""
    boss = User.objects.create_superuser(name)
    session = session_of(boss)
    try:
        yield {"sessionid": str(session.session_key)}
    finally:
        session.delete()
        LogEntry.objects.filter(user=boss).delete()
        with connection.cursor() as cursor:
            # A deployment keeps its last owner; a test's database starts empty.
            cursor.execute("SET session_replication_role = replica")
            boss.delete()
            cursor.execute("SET session_replication_role = DEFAULT")
