"""What a machine does: where its roles have no web process, nothing listens, and no port is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model

from gateway_project import database, installation, supervisor
from gateway_project.configuration import BASE_DIR, Configuration
from gateway_project.embedded_postgres import CannotStart
from keys.models import Customer
from tests.support.gateway import wait_until

WITHOUT_WEB = ["worker", "beat", "worker,beat", "beat, worker"]


@pytest.fixture
def taken_port():
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@contextlib.contextmanager
def supervised(folder: Path, **variables: object):
    """A supervisor of its own on the tests' database, and what it has said so far."""
    given = {name.upper(): str(value) for name, value in variables.items()}
    environment = os.environ | {
        "DATABASE_URL": database.url_of(settings.DATABASES["default"]),
        "VAR_DIR": str(folder / "var"),
        "DRAIN_NOTICE": "0",
        **given,
    }
    screen = folder / "screen"
    with screen.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway_project.supervisor"],
            cwd=BASE_DIR,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process, screen.read_text
    finally:
        process.terminate()
        process.wait(120)


def wait_for(text, process, said):
    wait_until(lambda: text in said() or process.poll() is not None, seconds=120)
    assert text in said(), said()


@pytest.mark.long
def test_without_web_processes_it_needs_no_port_and_says_that_it_does_not_listen(apart, tmp_path, taken_port):
    roles = "beat,worker"
    people = get_user_model().objects.count()
    with supervised(tmp_path, roles=roles, port=taken_port) as (process, said):
        wait_for("Ctrl-C", process, said)
        process.send_signal(signal.SIGHUP)
        wait_for("No web process runs here.", process, said)
        running = {file.stem for file in (tmp_path / "var" / "run").glob("*.pid")}
    assert process.returncode == 0
    assert running == set(roles.split(","))
    assert f"The gateway runs as {' and '.join(roles.split(','))} and doesn't listen (Ctrl-C stops it)." in said()
    assert said().rstrip().endswith("Stopped.")
    assert "http" not in said()
    # The first secrets are for a machine that they can be tried at.
    assert (get_user_model().objects.count(), Customer.objects.count()) == (people, 0)


def test_with_a_web_process_it_does_not_start_where_the_port_is_taken(apart, tmp_path, taken_port):
    with supervised(tmp_path, roles="worker,admin", port=taken_port) as (process, said):
        assert process.wait(60) == 2
    assert said().startswith(f"Port {taken_port} on 127.0.0.1 is in use")


@pytest.mark.parametrize("roles", WITHOUT_WEB)
def test_nothing_listens_without_web_processes(roles):
    assert supervisor.listener_of(Configuration(roles=roles)) is None


@pytest.mark.parametrize("roles", ["api", "admin", "worker,api", "beat,admin", "api,admin,worker,beat"])
def test_with_any_web_role_something_listens(roles, taken_port):
    with pytest.raises(CannotStart, match="in use"):
        supervisor.listener_of(Configuration(roles=roles, port=taken_port))


@pytest.mark.parametrize("roles", WITHOUT_WEB)
@pytest.mark.parametrize("line", ["ROLES={}", "roles = '{}'", 'export ROLES="{}"  # this machine'])
def test_installing_looks_at_no_port_without_web_processes(env_file, taken_port, roles, line):
    env_file.write_text(f"{line.format(roles)}\nPORT={taken_port}\n")
    installation.check_port()


@pytest.mark.parametrize(
    "line", ["", "ROLES=\n", "ROLES=worker, api\n", "# ROLES=worker\n", "ROLES=worker\nROLES=admin\n"]
)
def test_installing_refuses_a_taken_port_where_a_web_process_will_run(env_file, taken_port, line):
    env_file.write_text(f"{line}PORT={taken_port} # ours\n")
    with pytest.raises(SystemExit, match=f"Port {taken_port} on 127.0.0.1 is in use"):
        installation.check_port()


@pytest.fixture
def env_file(tmp_path, monkeypatch):
    """The `.env` of a checkout that has nothing else."""
    monkeypatch.setattr(installation, "BASE_DIR", tmp_path)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    return tmp_path / ".env"
