"""An owner's browser, and secrets of the test's own."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture(autouse=True)
def own_secrets(settings: Any, tmp_path: Any) -> None:
    """Each test of a module that imports this has a data folder of its own."""
    settings.VAR_DIR = tmp_path


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    """A browser in which an owner is signed in."""
    client.force_login(User.objects.create_superuser("boss", password=None))
    return client
