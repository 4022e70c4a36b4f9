"""What `manage.py` says if the gateway is stopped, the database is unavailable or not set up, or the broker is
unavailable."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection

import manage
from gateway_project import database, unavailable
from gateway_project.configuration import BASE_DIR, Configuration
from tests.support.databases import admin_connection, drop_database

DJANGOS_OWN = [
    ["migrate"],
    ["showmigrations"],
    ["sqlmigrate", "usage", "0001"],
    ["createsuperuser", "--noinput", "--username", "alice", "--email", "alice@example.com"],
    ["changepassword", "alice"],
    ["clearsessions"],
    ["remove_stale_contenttypes", "--noinput"],
    ["flush", "--noinput"],
    ["inspectdb"],
    ["dumpdata", "keys"],
    ["dbshell"],
    ["runserver", "--noreload", "127.0.0.1:1"],
    ["testserver", "--noinput"],
    ["test", "--noinput"],
    ["shell", "--no-imports", "-c", "from keys.models import Customer; Customer.objects.first()"],
]
OURS = [
    ["export_usage"],
    ["verify_ledger"],
    ["issue_virtual_key", "alice", "--customer", "Acme", "--provider-key", "echo"],
    ["revoke_virtual_key", "alice"],
    ["rotate_master_key"],
    ["top_up", "customer:Acme", "10", "--reason", "a gift"],
]


@pytest.fixture
def nowhere():
    """A port of this machine at which connections are refused, and that no other program gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def refusing_postgres(code: str, text: str):
    """A server that refuses every connection, as PostgreSQL does it: the port that it listens on."""
    fields = b"".join(kind + value.encode() + b"\0" for kind, value in [(b"S", "FATAL"), (b"C", code), (b"M", text)])
    refusal = b"E" + (4 + len(fields) + 1).to_bytes(4, "big") + fields + b"\0"

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                with link:
                    # Requests for encryption are 8 bytes long, and answered with "no".
                    while len(link.recv(4096)) == 8:
                        link.sendall(b"N")
                    link.sendall(refusal)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def run(*arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """`manage.py` with these arguments, as in a shell."""
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a command that could not do its work."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.endswith("\n")
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def manage_py(monkeypatch, capsys, django_db_blocker):
    """`manage.py` in this process, beside this database; gives the one line that it ends with."""

    def manage_with(arguments: list[str], **place: object) -> str:
        connection.close()
        monkeypatch.setattr(sys, "argv", ["manage.py", *arguments])
        for name, value in {"HOST": "127.0.0.1", **place}.items():
            monkeypatch.setitem(settings.DATABASES["default"], name, str(value))
            monkeypatch.setitem(connection.settings_dict, name, str(value))
        with django_db_blocker.unblock(), pytest.raises(SystemExit) as ended:
            manage.main()
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return str(line)

    yield manage_with
    connection.close()


@pytest.mark.parametrize("arguments", DJANGOS_OWN + OURS, ids=lambda arguments: arguments[0])
def test_every_command_reports_an_unavailable_database_in_one_line(manage_py, arguments, nowhere, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    line = manage_py(arguments, PORT=nowhere)
    assert line.startswith(f"DATABASE_URL: PostgreSQL at 127.0.0.1, port {nowhere} is not running")
    assert "start it" in line


@pytest.mark.parametrize(
    ("arguments", "was_there"), [(["export_usage"], False), (["migrate"], True)], ids=["never started", "stopped"]
)
def test_beside_a_stopped_gateway_a_command_says_how_to_start_it(tmp_path, arguments, was_there):
    if was_there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "supervisor.lock").write_text(str(os.getpid()))
        (tmp_path / database.URL_FILE).write_text(f"postgresql://gateway@/gateway?host={tmp_path}\n")
    line = the_line(run(*arguments, DATABASE_URL="", VAR_DIR=tmp_path))
    assert line == (
        f"The gateway with its data in {tmp_path} is not running, and neither is its database: start it with "
        "`make run`, or set DATABASE_URL."
    )


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        ("28P01", 'password authentication failed for user "alice"', "refuses the user “alice” or the password"),
        ("28000", 'role "alice" does not exist', "refuses the user “alice” or the password"),
        ("3D000", 'database "ledger" does not exist', "has no database “ledger”: create it"),
        ("57P03", "the database system is starting up", "accepts no connections now"),
        ("57P03", "the database system is shutting down", "accepts no connections now"),
        ("53300", "sorry, too many clients already", "accepts no connections now"),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.1"', "can't be used: no pg_hba.conf entry"),
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", "can't be used: Passwort-Authentifizierung"),
    ],
)
def test_a_refusing_server_differs_from_a_missing_one_and_no_password_is_shown(manage_py, code, text, said):
    with refusing_postgres(code, text) as port:
        line = manage_py(["clearsessions"], PORT=port, USER="alice", PASSWORD="p4ssw0rd", NAME="ledger")
    assert line.startswith(f"DATABASE_URL: PostgreSQL at 127.0.0.1, port {port} {said}")
    assert "p4ssw0rd" not in line


@pytest.mark.usefixtures("django_db_setup")
@pytest.mark.parametrize(
    ("name", "said"), [("NAME", "has no database “nonsense”"), ("USER", "refuses the user “nonsense”")]
)
def test_a_real_server_without_this_database_or_user(manage_py, name, said):
    given = {part: connection.settings_dict[part] for part in ("HOST", "PORT")} | {name: "nonsense"}
    assert said in manage_py(["showmigrations"], **given)


@pytest.fixture
def empty_database(django_db_blocker):
    """The URL of a database without tables."""
    name = f"{settings.DATABASES['default']['NAME']}_empty"
    with django_db_blocker.unblock(), admin_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield database.url_of(connection.settings_dict | {"NAME": name})
        drop_database(link, name)


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["export_usage"], ["dumpdata", "keys"]], ids=["ours", "Django's"])
def test_a_database_without_tables_wants_to_be_migrated(empty_database, arguments):
    line = the_line(run(*arguments, DATABASE_URL=empty_database))
    assert line.startswith("The database lacks tables: ")
    assert "migrations are missing" in line
    assert "`manage.py migrate`" in line


def test_an_unavailable_broker_is_named_without_its_password(nowhere):
    code = "from usage.tasks import reap; reap.apply_async(retry=False)"
    url = f"redis://:p4ssw0rd@127.0.0.1:{nowhere}/0"
    line = the_line(run("shell", "--no-imports", "-c", code, CELERY_BROKER_URL=url))
    assert line.startswith(f"CELERY_BROKER_URL: the message broker at 127.0.0.1, port {nowhere} is not running")
    assert "p4ssw0rd" not in line


@pytest.mark.django_db
@pytest.mark.parametrize(
    "code",
    [
        "1 / 0",
        "from django.db import connection; connection.cursor().execute('SELECT 1 FROM nowhere')",
        "raise PermissionError(13, 'Permission denied', '/etc/shadow')",
    ],
)
def test_a_programming_error_keeps_its_traceback(code):
    done = run("shell", "--no-imports", "-c", code, DATABASE_URL=database.url_of(connection.settings_dict))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_the_option_traceback_shows_a_traceback(nowhere):
    done = run("export_usage", "--traceback", DATABASE_URL=f"postgresql://a@127.0.0.1:{nowhere}/x")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_help_needs_no_database(nowhere):
    done = run("dumpdata", "--help", DATABASE_URL=f"postgresql://a@127.0.0.1:{nowhere}/x")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_secret_file_that_lost_its_lines_is_one_line(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "secret_key").touch()
    assert "secret_key is empty: restore its secrets" in the_line(run("check", VAR_DIR=tmp_path))


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    """The configuration of a gateway with an embedded database."""
    monkeypatch.setattr(unavailable, "configuration", lambda: Configuration(database_url="", var_dir=tmp_path))
    return tmp_path


def test_another_user_than_the_gateways_is_sent_to_that_one(deployment):
    hidden = PermissionError(13, "Permission denied", str(deployment / "secrets" / "secret_key"))
    socket_hidden = psycopg.OperationalError(
        'connection is bad: connection to server on socket "/x" failed: Permission denied'
    )
    for error in (hidden, socket_hidden):
        assert (unavailable.explain(error) or "").endswith(": run this as the user that runs the gateway.")


def test_a_running_gateway_whose_database_does_not_answer_is_not_called_stopped(deployment):
    (deployment / "run").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "gateway_project.supervisor"], stdin=subprocess.PIPE
    ) as process:
        (deployment / "run" / "supervisor.lock").write_text(str(process.pid))
        line = unavailable.explain(OperationalError("connection is bad: Connection refused"))
        process.communicate(b"\n")
    assert line == (
        f"The gateway's database accepts no connections now (Connection refused); see {deployment}/log/postgres.log."
    )


@pytest.mark.django_db
def test_a_statement_that_the_database_gives_up_is_one_line():
    with pytest.raises(OperationalError) as caught, connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)")
    assert (
        unavailable.explain(caught.value)
        == "The database couldn't complete the command: canceling statement due to statement timeout."
    )
