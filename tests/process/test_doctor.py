"""manage.py doctor: each fault, really made, is found and has a way to mend it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from gateway_project.configuration import BASE_DIR
from gateway_project.operations import doctor
from gateway_project.operations.doctor import Level
from keys import keyring, secret_files
from keys.models import Gateway, ProviderKey
from tests.support.databases import admin_connection
from usage import restored_copies, spool
from usage.models import Process
from usage.workers import Worker, WorkerKind

Space = namedtuple("Space", ["free"])


def found(check):
    """The findings of a check: pairs of level and text, with what to do."""
    return [(each.level, f"{each.says} ▸ {each.mend}") for each in doctor.examine() if each.check == check]


def configured(monkeypatch, **values):
    """The deployment with other settings, as the program has read them."""
    monkeypatch.setattr(settings, "CONFIGURATION", settings.CONFIGURATION.model_copy(update=values))


@contextlib.contextmanager
def setting(name, value):
    """A setting of the tests' database, for new connections."""
    database = settings.DATABASES["default"]["NAME"]
    with admin_connection() as link:
        link.execute(f'ALTER DATABASE "{database}" SET {name} = {value}')
        try:
            yield
        finally:
            link.execute(f'ALTER DATABASE "{database}" RESET {name}')


def test_a_deployment_without_faults_of_its_database_says_so(served):
    levels = {each.check: each.level for each in doctor.examine()}
    for check in ("database", "connections", "clock", "migrations", "restored copy"):
        assert levels[check] == Level.OK, check


def test_the_database_is_away_and_the_rest_is_checked_all_the_same(tmp_path):
    environment = os.environ | {
        "DATABASE_URL": "postgresql://bursar@127.0.0.1:1/none",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "VAR_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    findings = {each["check"]: each for each in json.loads(done.stdout)}
    assert "is not running or can't be reached" in findings["database"]["says"]
    assert findings["broker"]["level"] == "fault"
    assert "CELERY_BROKER_URL" in findings["broker"]["mend"]
    assert {"disks", "open files", "secrets", "spool", "mail"} <= findings.keys()


def test_settings_that_lose_commits_are_found(served):
    with setting("synchronous_commit", "off"):
        assert any("synchronous_commit is off" in text for _, text in found("database settings"))
    with setting("default_transaction_read_only", "on"):
        assert (Level.FAULT, True) in [
            (level, "default_transaction_read_only is on" in text) for level, text in found("database settings")
        ]


def test_too_many_processes_for_the_connections_are_found(served, monkeypatch):
    configured(monkeypatch, web_processes=200)
    ((level, text),) = found("connections")
    assert level == Level.FAULT
    assert "max_connections" in text


def test_a_transaction_that_stays_open_is_found(served, monkeypatch):
    monkeypatch.setattr("gateway_project.operations.doctor.database.OPEN_SECONDS", 0)
    with admin_connection() as link, link.transaction():
        link.execute("SELECT pg_current_xact_id()")
        assert any("has been open" in text for _, text in found("transactions"))


def test_a_clock_that_is_wrong_is_found(served, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    ((level, text),) = found("clock")
    assert level == Level.FAULT
    assert "+3600" in text
    assert "NTP" in text


def test_migrations_and_the_arbiter_that_are_missing_are_found(served):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'usage' AND name = '0001_initial' RETURNING applied")
        (applied,) = cursor.fetchone()
        try:
            ((level, text),) = found("migrations")
        finally:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('usage', '0001_initial', %s)", [applied]
            )
    assert level == Level.FAULT
    assert "usage.0001_initial" in text
    assert "manage.py migrate" in text


def test_a_restored_copy_that_waits_and_a_paused_gateway_are_found(served):
    restored_copies.mark(None)
    ((level, text),) = found("restored copy")
    assert level == Level.FAULT
    assert "restore --activate" in text
    restored_copies.activate()
    Gateway.objects.update(paused=True)
    assert found("restored copy")[0][0] == Level.WARNING
    Gateway.objects.update(paused=False)
    assert found("restored copy")[0][0] == Level.OK


def test_web_processes_of_another_version_are_found(served):
    row = Process.objects.create(id="00000000-0000-7000-8000-000000000001", host="a", pid=1, arbiter="arbiter_old")
    try:
        ((level, text),) = found("web processes")
    finally:
        row.delete()
    assert level == Level.WARNING
    assert "another version" in text


def test_missing_workers_and_two_beats_are_found(served):
    Worker.objects.all().delete()
    assert [level for level, _ in found("workers")][:2] == [Level.FAULT, Level.FAULT]
    for number, kind in enumerate((WorkerKind.WORKER, WorkerKind.BEAT, WorkerKind.BEAT)):
        Worker.objects.create(
            id=f"00000000-0000-7000-8000-00000000000{number}", kind=kind, host="a", pid=number, beat_at=timezone.now()
        )
    assert any("2 processes of beat" in text for _, text in found("workers"))
    Worker.objects.all().delete()


def test_provider_keys_that_can_not_be_used_are_found(alice):
    before = keyring.lines("master_keys")
    file = settings.VAR_DIR / "secrets" / "master_keys"
    secret_files.write(file, [secret_files.new_master_key()])
    try:
        ((level, text),) = found("provider keys")
    finally:
        secret_files.write(file, before)
    assert level == Level.FAULT
    assert "master key" in text
    ProviderKey.objects.update(active=False)
    assert found("provider keys")[0][0] == Level.WARNING


def test_secrets_that_others_can_read_are_found(served):
    keyring.peppers()
    file = settings.VAR_DIR / "secrets" / "peppers"
    assert found("secrets")[0][0] == Level.OK
    file.chmod(0o644)
    try:
        ((level, text),) = found("secrets")
    finally:
        file.chmod(0o600)
    assert level == Level.FAULT
    assert f"chmod 600 {file}" in text


def test_a_disk_that_is_nearly_full_is_found(served, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Space(150_000_000))
    assert {level for level, _ in found("disks")} == {Level.FAULT}
    assert "150 MB" in found("disks")[0][1]


def test_few_files_are_found(served, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    ((level, text),) = found("open files")
    assert level == Level.WARNING
    assert "LimitNOFILE" in text


def test_settlements_and_dead_letters_that_wait_are_found(served, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "SPOOL_DIR", tmp_path)
    assert found("spool")[0][0] == Level.OK
    spool.keep([b'{"id": "x"}'])
    spool.bury(b"{}", "test")
    assert [level for level, _ in found("spool")] == [Level.FAULT, Level.WARNING]


def test_a_mail_server_that_is_away_or_silent_is_found(served, monkeypatch):
    assert found("mail")[0][0] == Level.OK
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configured(
            monkeypatch, email_host="127.0.0.1", email_port=port, email_security="none", email_password="planted"
        )

        def answer():
            link, _ = server.accept()
            with link:
                link.sendall(b"554 go away\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        ((level, text),) = found("mail")
        thread.join()
        assert level == Level.FAULT
        assert "planted" not in text
    assert found("mail")[0][0] == Level.FAULT


@pytest.mark.parametrize(
    ("values", "level", "words"),
    [
        ({"debug": True}, Level.FAULT, "DEBUG=false"),
        ({"host": "0.0.0.0"}, Level.WARNING, "TLS_IN_FRONT=true"),
        ({"tls_in_front": True}, Level.WARNING, "TRUSTED_PROXIES"),
        ({"allowed_hosts": ["*"]}, Level.WARNING, "ALLOWED_HOSTS"),
    ],
)
def test_settings_of_what_is_in_front_are_judged(served, monkeypatch, values, level, words):
    configured(monkeypatch, **values)
    ((seen, text),) = found("TLS and proxies")
    assert (seen, words in text) == (level, True)


def test_the_exit_code_is_that_of_the_worst_finding(served, monkeypatch, capsys):
    def only(*levels):
        findings = [doctor.Finding("x", level, "says", "mend") for level in levels]
        monkeypatch.setattr("gateway_project.operations.management.commands.doctor.examine", lambda: findings)
        try:
            call_command("doctor")
        except SystemExit as end:
            return end.code
        return 0

    assert only(Level.OK) == 0
    assert only(Level.OK, Level.WARNING) == 1
    assert only(Level.WARNING, Level.FAULT) == 2
    assert "fault   x: says ▸ mend" in capsys.readouterr().out
