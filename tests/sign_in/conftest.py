"""Alice and her second factor, and a provider of single sign-on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User

from administration.sign_in import oidc
from tests.support import oidc_provider
from tests.support.oidc_provider import Provider
from tests.support.signing_in import PASSWORD, SECRET
from tests.support.single_sign_on import Configure


@pytest.fixture
def cheap_and_own_secrets(settings: Any, tmp_path: Any) -> None:
    settings.VAR_DIR = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(cheap_and_own_secrets: None) -> User:
    return User.objects.create_superuser("alice", "alice@example.com", PASSWORD)


@pytest.fixture
def app(alice: User) -> Authenticator:
    """An app with which alice signs in."""
    return TOTP.activate(alice, SECRET).instance


@pytest.fixture
def demand(settings: Any) -> Callable[..., None]:
    def of(*roles: str) -> None:
        settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"second_factor_roles": list(roles)})

    return of


@pytest.fixture
def own_secrets(settings: Any, tmp_path: Any) -> None:
    settings.VAR_DIR = tmp_path


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with oidc_provider.running() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider, settings: Any, own_secrets: None) -> Iterator[Provider]:
    """A provider that Bursar knows, with iris signed in there."""
    known = {"oidc_issuer": running.url, "oidc_client_id": "bursar", "oidc_client_secret": oidc_provider.SECRET}
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={**known, "oidc_creates_people": True})
    running.person = {"sub": "iris", "email": "iris@example.com", "email_verified": True, "given_name": "Iris"}
    oidc._kept.clear()
    yield running
    running.token, running.more, running.discovery = {}, {}, {}
    running.signs_with, running.algorithm = running.key, "RS256"
    oidc._kept.clear()


@pytest.fixture
def configure(settings: Any, provider: Provider) -> Configure:
    def change(**values: Any) -> None:
        settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update=values)

    return change
