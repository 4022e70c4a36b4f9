"""The embedded PostgreSQL: private, whole or not there, never opened by the wrong version."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import psycopg
import pytest

from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import CannotStart, Server


@pytest.fixture
def folder():
    """Where PostgreSQL's user gets in, too: a short path, since sockets live in it."""
    path = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_it_listens_on_a_private_socket_only(folder):
    with embedded_postgres.running(folder) as url, psycopg.connect(url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        for private in (folder, folder / "socket", folder / "data"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        owner = folder.stat().st_uid
        assert owner != 0
        assert owner == (folder / "data").stat().st_uid


def test_it_is_gone_after_use_and_keeps_its_data(folder):
    with embedded_postgres.running(folder) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    with embedded_postgres.running(folder) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT text FROM note").fetchone() == ("kept",)


def test_a_first_run_that_was_killed_leaves_no_half_database(folder):
    draft = folder / "data.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18")
    with embedded_postgres.running(folder) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not draft.exists()


def test_it_refuses_the_data_of_another_major_version(tmp_path):
    (tmp_path / "PG_VERSION").write_text("9")
    with pytest.raises(CannotStart, match=r"written by PostgreSQL 9, and the installed one is \d+"):
        embedded_postgres.choose_installation(tmp_path)


def test_it_opens_data_with_the_version_that_wrote_it(tmp_path):
    for version, installation in embedded_postgres.installations().items():
        (tmp_path / "PG_VERSION").write_text(f"{version}\n")
        assert embedded_postgres.choose_installation(tmp_path) == (version, installation)


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    socket = embedded_postgres.make_socket_folder(deep)
    try:
        assert len(os.fsencode(socket)) <= embedded_postgres.LONGEST_SOCKET_FOLDER
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert embedded_postgres.make_socket_folder(deep) == socket
        socket.chmod(0o755)
        with pytest.raises(CannotStart, match="nobody else can enter"):
            embedded_postgres.make_socket_folder(deep)
    finally:
        socket.rmdir()


def test_a_fresh_checkout_at_an_old_path_has_another_database(tmp_path):
    first = embedded_postgres.instance(tmp_path)
    assert embedded_postgres.instance(tmp_path) == first
    (tmp_path / "instance").unlink()
    assert embedded_postgres.instance(tmp_path) != first


def test_its_url_holds_any_path(tmp_path):
    server = Server(tmp_path, tmp_path / "data", tmp_path / "a socket", None)
    assert psycopg.conninfo.conninfo_to_dict(server.url)["host"] == str(tmp_path / "a socket")
