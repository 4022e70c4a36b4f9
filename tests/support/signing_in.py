"""The steps of a sign-in with a password and a second factor, in a browser of a test."""

from __future__ import annotations

import time
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client
from django.urls import reverse

from keys.audit.models import AuditEvent

PASSWORD = "correct horse battery"


SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code(secret: str = SECRET, steps: int = 0) -> str:
    """What the app shows, some steps of 30 seconds from now."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps)))


def wrong() -> str:
    """A code that the app shows neither now nor soon."""
    shown = {code(steps=steps) for steps in range(-3, 4)}
    return next(text for text in map(str, range(111_111, 999_999, 111_111)) if text not in shown)


def give_password(client: Client, next: str = "") -> Any:
    return client.post(reverse("admin:login"), {"username": "alice", "password": PASSWORD, "next": next})


def give_code(client: Client, text: str) -> Any:
    return client.post(reverse("mfa_authenticate"), {"code": text})


def is_inside(client: Client) -> bool:
    return client.get(reverse("admin:index")).status_code == 200


def actions(table: str = "auth_user") -> list[str]:
    return list(AuditEvent.objects.filter(table_name=table).order_by("pk").values_list("action", flat=True))
