"""manage.py backup and restore: what was there is there afterwards, and the copy waits until it is activated."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from gateway_project import database, embedded_postgres
from gateway_project.configuration import BASE_DIR
from gateway_project.operations import archive, programs
from keys import keyring
from keys.errors import Conflict, Unusable
from keys.keyring import pepper_of
from keys.models import Gateway
from tests.support.databases import drop_database, maintenance_connection
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, message, post, started, wait_until
from usage import restored_copies, rollups, tasks, transaction_numbers
from usage.models import LedgerEntry, RollupState

PEPPER = pepper_of("a" * 32)


def manage(*words, url, var_dir, **more):
    """Run manage.py for a deployment of its own, as an operator does."""
    environment = os.environ | {"DATABASE_URL": url, "VAR_DIR": str(var_dir), "SPOOL_DIR": str(var_dir / "spool")}
    return subprocess.run(
        [sys.executable, "manage.py", *map(str, words)],
        cwd=BASE_DIR,
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
    )


def url_here(name=None):
    """The URL of a database of the tests' server."""
    given = settings.DATABASES["default"]
    return database.url_of({**given, "NAME": name or given["NAME"]})


@contextlib.contextmanager
def empty_database():
    """An empty database of the tests' server; its URL."""
    name = f"{settings.DATABASES['default']['NAME']}_copy"
    with maintenance_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        yield url_here(name)
    finally:
        with maintenance_connection() as link:
            drop_database(link, name)


@contextlib.contextmanager
def another_server():
    """An empty server, which counts transactions from its own beginning; its URL."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-copy-", dir="/tmp"))
    try:
        with embedded_postgres.running(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def asked(url, query):
    """The first column of the first row."""
    with psycopg.connect(url) as link:
        found = link.execute(query).fetchone()
    assert found
    return found[0]


def backed_up(folder):
    """Back the served deployment up: the archive and the file of its secrets."""
    to, secrets = folder / "a.backup", folder / "a.secrets"
    done = manage("backup", to, "--secrets", secrets, url=url_here(), var_dir=settings.VAR_DIR)
    assert done.returncode == 0, done.stderr
    return to, secrets


@pytest.mark.long
@pytest.mark.either_server
def test_a_restored_gateway_has_everything_and_takes_calls_only_once_it_is_activated(alice, web, upstream, tmp_path):
    upstream.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    wait_until(lambda: LedgerEntry.objects.count() == 1)
    # On a server that others use too, a row is added once their transactions that are older have ended.
    wait_until(lambda: rollups.roll_up() == 1)
    (row,) = LedgerEntry.objects.values_list("id", "cost", "xid")
    to, secrets = backed_up(tmp_path)
    for path in (to, secrets):
        assert path.stat().st_mode & 0o777 == 0o600
    held = to.read_bytes()
    for secret in (*keyring.lines("peppers"), *keyring.lines("master_keys"), alice.key, "sk-ant-the-providers-own"):
        assert secret.encode() not in held
    copy_dir = tmp_path / "copy"
    copy_dir.mkdir()
    with another_server() as url:
        done = manage("restore", to, "--secrets", secrets, url=url, var_dir=copy_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is added from now on" in done.stderr
        assert asked(url, "SELECT id FROM usage_ledgerentry") == row[0]
        again = manage("restore", to, "--secrets", secrets, url=url, var_dir=copy_dir)
        assert again.returncode == 2
        assert "isn't empty" in again.stderr

        with started(database_url=url, var_dir=copy_dir) as copy:
            refused = post(copy, alice.key)
            assert refused.status_code == 503
            assert "restored copy" in refused.json()["error"]["message"]
            ready = CLIENT.get(copy.url + "/health/ready")
            assert ready.status_code == 503
            assert "restore --activate" in ready.text
            with psycopg.connect(url) as link:
                link.execute("UPDATE keys_gateway SET paused = false")
            assert post(copy, alice.key).status_code == 503

            assert manage("restore", "--activate", url=url, var_dir=copy_dir).returncode == 0
            assert manage("restore", "--activate", url=url, var_dir=copy_dir).returncode == 2
            assert post(copy, alice.key).status_code == 200
            wait_until(lambda: asked(url, "SELECT count(*) FROM usage_ledgerentry") == 2)
            wait_until(lambda: CLIENT.get(copy.url + "/health/ready").status_code == 200)
        # What was written before and what is written now have one order, by which roll-ups go.
        assert asked(url, f"SELECT count(*) FROM usage_ledgerentry WHERE xid > '{row[2]}'") == 1
        rolled = manage("shell", "-c", "from usage import rollups; print(rollups.roll_up())", url=url, var_dir=copy_dir)
        assert rolled.stdout.splitlines()[-1] == "1", rolled.stderr
        assert asked(url, "SELECT sum(calls) FROM usage_rollup") == 2
        for command in ("verify_ledger", "verify_audit"):
            verified = manage(command, url=url, var_dir=copy_dir)
            assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.long
@pytest.mark.either_server
def test_an_archive_is_restored_into_the_kind_of_server_that_it_comes_from(alice, tmp_path):
    to, secrets = backed_up(tmp_path)
    with empty_database() as url:
        done = manage("restore", to, "--secrets", secrets, url=url, var_dir=tmp_path / "copy")
        assert done.returncode == 0, done.stdout + done.stderr
        assert asked(url, "SELECT count(*) FROM keys_virtualkey") == 1
        # As after loading a dump by hand.
        with psycopg.connect(url) as link:
            link.execute("DELETE FROM usage_restoredcopy")
            link.execute("UPDATE keys_gateway SET paused = false")
        done = manage("restore", "--mend", url=url, var_dir=tmp_path / "copy")
        assert done.returncode == 0, done.stdout + done.stderr
        assert asked(url, "SELECT count(*) FROM usage_restoredcopy, keys_gateway WHERE paused") == 1


@pytest.mark.long
def test_an_embedded_gateway_that_is_stopped_is_restored_and_backed_up(alice, tmp_path):
    to, secrets = backed_up(tmp_path)
    # Short, because the socket of the database may be in it, and open to the user that the database runs as.
    var_dir = Path(tempfile.mkdtemp(prefix="gateway-embedded-", dir="/tmp"))
    var_dir.chmod(0o755)
    try:
        done = manage("restore", to, "--secrets", secrets, url="", var_dir=var_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "starting its database for this command" in done.stderr
        done = manage("backup", tmp_path / "b.backup", url="", var_dir=var_dir)
        assert done.returncode == 0, done.stderr
        assert "has no secrets" in done.stderr
        checked = manage("restore", "--check", tmp_path / "b.backup", url="", var_dir=var_dir)
        assert (checked.returncode, "is as it was sealed" in checked.stdout) == (0, True), checked.stderr
        assert manage("restore", "--activate", url="", var_dir=var_dir).returncode == 0
        refused = manage("restore", to, "--secrets", secrets, url="", var_dir=var_dir)
        assert (refused.returncode, "isn't empty" in refused.stderr) == (2, True), refused.stderr
        assert not list((var_dir / "run").glob("*.pid"))
    finally:
        instance = var_dir / "instance"
        if instance.exists():
            shutil.rmtree(embedded_postgres.SYSTEM_DIR / instance.read_text().strip(), ignore_errors=True)
        shutil.rmtree(var_dir)


def test_a_copy_that_waits_runs_no_tasks_and_keeps_its_pause_of_before(served):
    Gateway.objects.update(paused=True)
    restored_copies.mark(None)
    before = RollupState.objects.get().rolled_up_at
    tasks.roll_up()
    assert RollupState.objects.get().rolled_up_at == before
    restored_copies.activate()
    tasks.roll_up()
    assert RollupState.objects.get().rolled_up_at != before
    assert Gateway.objects.get().paused
    Gateway.objects.update(paused=False)
    with pytest.raises(Conflict, match="nothing to activate"):
        restored_copies.activate()


def test_an_archive_that_was_changed_is_refused(tmp_path):
    with archive.Writer(tmp_path / "a") as made:
        with made.part(archive.DATABASE) as write:
            write(b"as it was")
        made.finish({"made_at": "2026-01-01T00:00:00+00:00", "version": "1", "migrations": []}, PEPPER)
    archive.Reader(tmp_path / "a", [PEPPER]).check(len)
    with pytest.raises(Unusable, match="--secrets"):
        archive.Reader(tmp_path / "a", [pepper_of("b" * 32)])

    def rewritten(change):
        with zipfile.ZipFile(tmp_path / "a") as before, zipfile.ZipFile(tmp_path / "b", "w") as after:
            parts = {name: before.read(name) for name in before.namelist()}
            change(parts)
            for name, value in parts.items():
                after.writestr(name, value)
        return archive.Reader(tmp_path / "b", [PEPPER])

    def to_manifest(parts):
        parts[archive.MANIFEST] = parts[archive.MANIFEST].replace(b"2026-01-01", b"2026-01-02")

    with pytest.raises(Unusable, match="not as it was sealed"):
        rewritten(to_manifest)
    with pytest.raises(Unusable, match=r"database\.dump is not as it was sealed"):
        rewritten(lambda parts: parts.update({archive.DATABASE: b"as it isn't"})).check(len)
    with pytest.raises(Unusable, match="not those of its manifest"):
        rewritten(lambda parts: parts.update({"spool/more.jsonl": b"{}"})).check(len)
    whole_file = (tmp_path / "a").read_bytes()
    (tmp_path / "half").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(Unusable, match="not the whole of one"):
        archive.Reader(tmp_path / "half", [PEPPER])


def test_a_backup_never_replaces_a_file_and_an_interrupted_one_leaves_none(tmp_path):
    (tmp_path / "there").write_text("x")
    with pytest.raises(Unusable, match="exists already"):
        archive.Writer(tmp_path / "there")

    def interrupted():
        with archive.Writer(tmp_path / "a") as made, made.part(archive.DATABASE) as write:
            write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_stopped_backup_leaves_neither_archive_nor_secrets(served, tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    # A pg_dump that has begun and takes long.
    version = asked(url_here(), "SELECT current_setting('server_version_num')::int / 10000")
    (folder / "pg_dump").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo "pg_dump (PostgreSQL) {version}.1"\n'
        f"touch {tmp_path}/begun\nexec sleep 600\n"
    )
    (folder / "pg_dump").chmod(0o700)
    environment = os.environ | {"DATABASE_URL": url_here(), "VAR_DIR": str(settings.VAR_DIR)}
    words = ["backup", tmp_path / "a", "--secrets", tmp_path / "s", "--programs", folder]
    process = subprocess.Popen([sys.executable, "manage.py", *map(str, words)], cwd=BASE_DIR, env=environment)
    wait_until((tmp_path / "begun").exists, 120)
    assert (tmp_path / ".a.draft").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "programs"]


def test_a_full_disk_is_said_and_leaves_no_half_archive(served, tmp_path):
    # The limit of a file's length stands in for the disk's end: both come as an error of a write.
    command = ["prlimit", "--fsize=65536", sys.executable, "manage.py", "backup", str(tmp_path / "a")]
    environment = os.environ | {"DATABASE_URL": url_here(), "VAR_DIR": str(settings.VAR_DIR)}
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_newer_than_the_programs_is_a_clear_refusal():
    newest = max(embedded_postgres.installations())
    with pytest.raises(Unusable, match=rf"PostgreSQL {newest + 1}.*--programs"):
        programs.folder_for(newest + 1)
    assert embedded_postgres.major_version(programs.folder_for(15) / "pg_dump") == newest


@pytest.mark.django_db(transaction=True)
@pytest.mark.either_server
def test_numbers_of_transactions_go_on_after_the_highest_that_is_stored(served):
    with psycopg.connect(url_here()) as link:
        link.execute("UPDATE usage_rollupstate SET xid = '900000000000'")
        assert transaction_numbers.mend(link) > 0
        query = f"SELECT {transaction_numbers.HORIZON}::text::numeric, usage_xid_offset()"
        ((horizon, offset),) = link.execute(query).fetchall()
        assert horizon > 800_000_000_000
        assert transaction_numbers.mend(link) <= offset
        # There is one function, which the arbiter of this version and of others see.
        assert link.execute("SELECT count(*) FROM pg_proc WHERE proname = 'usage_xid_offset'").fetchone() == (1,)
        link.rollback()
