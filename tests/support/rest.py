"""Programs that use the REST API with a token."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from administration.rest import tokens

WEEK = timedelta(days=7)


class Program:
    """A program with a token; `ask` returns the answer of a request."""

    def __init__(self, user: User, *scopes: str, name: str = "terraform") -> None:
        self.user = user
        self.token, self.plain = tokens.issue(user, name, scopes or ["all:write"], timezone.now() + WEEK)
        self.client = Client(raise_request_exception=False)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.generic(
            method,
            f"/api/v1/{path}",
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode(),
            content_type="application/json",
            headers={"authorization": f"Bearer {self.plain}"} | named,
        )

    def get(self, path: str) -> Any:
        """The JSON of an answer that must be a 200."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer to a change that must succeed."""
        answer = self.ask("POST", path, {} if body is None else body, **headers)
        assert answer.status_code in (200, 201), answer.content
        return answer.json()

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        """The answer to a change of the current version."""
        etag = headers.pop("if_match", None) or self.ask("GET", path)["etag"]
        return self.ask("PATCH", path, body, if_match=etag, **headers)


def error(answer: Any, status: int, code: str) -> Any:
    """Check that this is an error in the API's shape; returns it."""
    assert answer.status_code == status, answer.content
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "fields"}
    assert body["error"]["code"] == code
    return body["error"]


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss")


@pytest.fixture
def program(boss: User) -> Program:
    """A program of the owner, which may do everything."""
    return Program(boss)
