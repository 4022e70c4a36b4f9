"""The embedded PostgreSQL: private, whole or not there, never opened by the wrong version."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from gateway_project import embedded_postgres
from gateway_project.configuration import BASE_DIR
from gateway_project.embedded_postgres import CannotStart, Server
from gateway_project.processes import User

AT_ONCE = 4

# A process that finds its user, copies the programs and runs a server from the copy, as `make run` in a folder that
# only root can enter does: SYSTEM_DIR, SYSTEM_NAME, and its own folder are its arguments.
COPY_AND_RUN = """
import os, sys
from pathlib import Path
import psycopg
from gateway_project import embedded_postgres
embedded_postgres.SYSTEM_DIR = Path(sys.argv[1])
embedded_postgres.SYSTEM_NAME = sys.argv[2]
embedded_postgres.can_run = lambda installation, user: sys.argv[1] in str(installation)
if os.geteuid():
    found = max(embedded_postgres.installations().items())
    copy = embedded_postgres.reachable(found, None, print)
    embedded_postgres.installations = lambda: {found[0]: copy}
with embedded_postgres.running(Path(sys.argv[3])) as url, psycopg.connect(url) as connection:
    # What a server loads from its programs' folder only when it is asked to.
    connection.execute("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'")
    assert connection.execute("SELECT f()").fetchone() == (1,)
"""


@pytest.fixture
def folder():
    """Where PostgreSQL's user gets in, too: a short path, since sockets live in it."""
    path = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def system_dir(folder, monkeypatch):
    """A folder of this test in the place of the machine's own."""
    folder.chmod(0o755)
    monkeypatch.setattr(embedded_postgres, "SYSTEM_DIR", folder / "system")
    return folder / "system"


@pytest.fixture
def package(folder):
    """A tiny package of programs, in the shape of the wheel's."""
    program = folder / "package" / "pginstall18" / "bin" / "postgres"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho one\n")
    program.chmod(0o700)
    library = folder / "package.libs" / "libpq.so"
    library.parent.mkdir()
    library.write_text("a library")
    library.chmod(0o600)
    return folder / "package" / "pginstall18"


@pytest.fixture
def postgres_user():
    """The name of who runs PostgreSQL: for root, a system user that isn't there yet, and is taken away again."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    name = f"bf-test-{os.getpid()}"
    yield name
    subprocess.run(["userdel", name], capture_output=True, check=False)


def copy(installation):
    return embedded_postgres.copy_installation(installation, 18, lambda _: None)


def run_at_once(system_dir, name):
    """Let several processes copy and run at the same moment, and all of them end well."""
    folders = [Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir="/tmp")) for _ in range(AT_ONCE)]
    try:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", COPY_AND_RUN, str(system_dir), name, str(own)],
                cwd=BASE_DIR,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for own in folders
        ]
        outputs = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * AT_ONCE, "\n".join(outputs)
    finally:
        for own in folders:
            shutil.rmtree(own, ignore_errors=True)


def test_processes_that_start_at_once_on_a_new_machine_share_one_user_and_one_copy(system_dir, postgres_user):
    run_at_once(system_dir, postgres_user)
    assert [path.name.rpartition("-")[0] for path in system_dir.glob("[!.]*")] == ["postgres-18"]
    if os.geteuid() == 0:
        assert pwd.getpwnam(postgres_user).pw_shell == "/usr/sbin/nologin"


def test_a_copy_is_readable_for_all_users_and_made_once(system_dir, package):
    said: list[str] = []
    first = embedded_postgres.copy_installation(package, 18, said.append)
    assert embedded_postgres.copy_installation(package, 18, said.append) == first
    assert len(said) == 1
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [system_dir, *first.parents[1].rglob("*")]}
    assert modes["postgres"] == modes["bin"] == modes["system"] == 0o755
    assert modes["libpq.so"] == 0o644


@pytest.mark.parametrize("changed", ["package/pginstall18/bin/postgres", "package.libs/libpq.so"])
def test_other_programs_of_the_same_version_are_copied_beside_those_that_run(system_dir, package, folder, changed):
    old = copy(package)
    held = (old / "bin" / "postgres").stat()
    (folder / changed).write_text("#!/bin/sh\necho two\n")
    new = copy(package)
    assert new != old
    assert (new.parents[1] / changed).read_text() == "#!/bin/sh\necho two\n"
    assert (old / "bin" / "postgres").stat() == held
    assert "two" not in (old.parents[1] / changed).read_text()


def test_a_copy_that_was_killed_half_way_is_not_used_and_not_left(system_dir, package):
    place = copy(package).parents[1]
    draft = place.with_name(f".{place.name}")
    place.rename(draft)
    (draft / "package" / "pginstall18" / "bin" / "postgres").write_text("half")
    assert "one" in (copy(package) / "bin" / "postgres").read_text()
    assert not draft.exists()


def test_programs_that_change_while_they_are_copied_are_not_used(system_dir, package, monkeypatch):
    whole = shutil.copytree

    def changing(*arguments, **options):
        (package / "bin" / "postgres").write_text("in between")
        return whole(*arguments, **options)

    monkeypatch.setattr(shutil, "copytree", changing)
    with pytest.raises(CannotStart, match="changed while they were being copied"):
        copy(package)
    assert not list(system_dir.glob("postgres-*"))


def test_a_folder_has_its_mode_from_the_beginning_with_any_umask(folder):
    before = os.umask(0o077)
    try:
        embedded_postgres.make_folder(folder / "open", 0o755)
        embedded_postgres.make_folder(folder / "open", 0o755)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "open").stat().st_mode) == 0o755


def test_a_copy_that_its_user_cannot_reach_is_one_line(system_dir, package, monkeypatch):
    monkeypatch.setattr(embedded_postgres, "can_run", lambda installation, user: False)
    user = User("bf-nobody", 65534, 65534)
    with pytest.raises(CannotStart, match="bf-nobody can't run PostgreSQL's programs in "):
        embedded_postgres.reachable((18, package), user, lambda _: None)


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
    with pytest.raises(CannotStart, match=r"written by PostgreSQL 9, but PostgreSQL \d+ is installed"):
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
        with pytest.raises(CannotStart, match="only its owner, you, can enter"):
            embedded_postgres.make_socket_folder(deep)
    finally:
        socket.rmdir()


def test_a_fresh_checkout_at_an_old_path_has_another_database(tmp_path):
    first = embedded_postgres.instance(tmp_path)
    assert embedded_postgres.instance(tmp_path) == first
    (tmp_path / "instance").unlink()
    assert embedded_postgres.instance(tmp_path) != first


def test_a_run_killed_while_it_chose_its_name_gets_one(tmp_path):
    (tmp_path / "instance").touch()
    assert embedded_postgres.instance(tmp_path) == (tmp_path / "instance").read_text().strip() != ""


def test_its_url_holds_any_path(tmp_path):
    server = Server(tmp_path, tmp_path / "data", tmp_path / "a socket", None)
    assert psycopg.conninfo.conninfo_to_dict(server.url)["host"] == str(tmp_path / "a socket")
