"""Where Google gives tokens for service accounts, to test against."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.fake_provider import Upstream, whole

TOKEN = "ya29.google-access-token-0123456789"
ServiceAccount = Callable[[str], str]


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def google() -> Iterator[Upstream]:
    """Where Google gives tokens."""
    with Upstream() as google:
        google.answer = whole(200, json.dumps({"access_token": TOKEN, "expires_in": 3599}).encode())
        yield google


@pytest.fixture
def service_account(google: Upstream, private_key: str) -> ServiceAccount:
    """The JSON key of a service account of this name."""

    def make(name: str) -> str:
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "the-project",
                "private_key_id": "1",
                "private_key": private_key,
                "client_email": f"{name}@the-project.iam.gserviceaccount.com",
                "token_uri": google.url + "/token",
            }
        )

    return make
