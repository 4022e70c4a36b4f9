"""Events that no trigger sees: sign-ins, sign-outs and exports."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.http import HttpRequest

from keys.audit.actor import Actor, acting

USERS = "auth_user"
NOTE = "SELECT keys_audit_note(%s, %s, %s, '', %s::jsonb)"


def note(action: str, table: str, object: str = "", **details: object) -> None:
    """Add an event; each detail that isn't None becomes a text in its changes."""
    changes = {name: {"to": str(value)} for name, value in details.items() if value is not None}
    with connection.cursor() as cursor:
        cursor.execute(NOTE, [action, table, object, json.dumps(changes)])


def signed_in(request: HttpRequest | None, user: Any, **_: object) -> None:
    _note_of(request, user, "signed in")


def signed_out(request: HttpRequest | None, user: Any, **_: object) -> None:
    if user is not None:
        _note_of(request, user, "signed out")


def sign_in_failed(name: str) -> None:
    """The name is recorded only as the user's id. Other names can be passwords, typed into the wrong field."""
    users = get_user_model()._default_manager
    key = users.filter(username=name).values_list("pk", flat=True).first()
    note("failed to sign in", USERS, "" if key is None else str(key))


def _note_of(request: HttpRequest | None, user: Any, action: str) -> None:
    address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
    with acting(lambda: Actor("person", id=user.pk, address=address)):
        note(action, USERS, str(user.pk))
