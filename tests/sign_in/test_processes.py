"""What processes load for sign-in: those that serve no pages load nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.sessions.models import Session
from django.utils import timezone

from administration.tasks import forget_sessions
from gateway_project import page_socket
from tests.support.gateway import ROOT

LOADED = """
import sys
from gateway_project import asgi
asgi.handler.load_views()
print(*sorted({name.split(".")[0] for name in sys.modules} & {"allauth", "fido2", "qrcode", "oauthlib"}))
"""


def test_a_process_that_only_relays_calls_loads_nothing_of_sign_in(tmp_path) -> None:
    (tmp_path / "static").mkdir()
    given = {page_socket.PATH: str(tmp_path / "pages"), "VAR_DIR": str(tmp_path), "ROLES": "api,admin"}
    answer = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "\n"


@pytest.mark.django_db
def test_expired_sessions_are_deleted() -> None:
    for key, hours in (("over", -1), ("open", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=timezone.now() + timedelta(hours=hours))
    forget_sessions()
    assert [session.session_key for session in Session.objects.all()] == ["open"]


def test_no_page_shows_allauths_tables() -> None:
    shown = [model._meta.label for model in admin.site._registry if model.__module__.startswith("allauth.")]
    assert shown == []
