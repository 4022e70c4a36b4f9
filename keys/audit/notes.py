"""Events that no trigger sees: sign-ins, sign-outs and exports."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.http import HttpRequest
from django.utils import timezone

from keys.audit.actor import Actor, acting
from keys.audit.models import AuditEvent

USERS = "auth_user"
REFUSALS_EVERY = timedelta(minutes=1)
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


def sign_in_failed(name: str, action: str) -> None:
    """A wrong password or code of a user; `action` says which."""
    note(action, USERS, _user_key(name))


def sign_in_refused(name: str, action: str) -> None:
    """Refusals have no limit, unlike failures, and the log is never emptied: a user's next event is a minute later."""
    key = _user_key(name)
    since = timezone.now() - REFUSALS_EVERY
    if not AuditEvent.objects.filter(at__gt=since, action=action, table_name=USERS, object=key).exists():
        note(action, USERS, key)


def _user_key(name: str) -> str:
    """The user's id; empty for unknown names, which can be passwords that were typed into the wrong field."""
    key = get_user_model()._default_manager.filter(username=name).values_list("pk", flat=True).first()
    return "" if key is None else str(key)


def _note_of(request: HttpRequest | None, user: Any, action: str) -> None:
    address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
    with acting(lambda: Actor("person", id=user.pk, address=address)):
        note(action, USERS, str(user.pk))
