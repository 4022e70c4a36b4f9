"""The steps of single sign-on, in a browser of a test, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.models import Grant
from keys.audit.models import AuditEvent
from tests.support.oidc_provider import Provider

Configure = Callable[..., None]


def begin(client: Client, next: str = "") -> str:
    answer = client.get(reverse("single_sign_on"), {"next": next})
    assert answer.status_code == 302
    return answer.headers["location"]


def sign_in(client: Client, provider: Provider, next: str = "", **changes: str) -> Any:
    given = provider.authorize(begin(client, next)) | changes
    return client.get(reverse("openid_connect_callback"), given)


def person(client: Client) -> User | None:
    key = client.session.get("_auth_user_id")
    return User.objects.get(pk=key) if key else None


def failed(client: Client, answer: Any) -> None:
    assert answer.headers["location"] == reverse("admin:login")
    assert person(client) is None


def events() -> list[str]:
    return list(AuditEvent.objects.filter(table_name="auth_user").order_by("pk").values_list("action", flat=True))


def roles(user: User) -> set[str]:
    return {str(grant) for grant in Grant.objects.filter(user=user)}
