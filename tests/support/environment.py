"""What every test stands on, made before anything reads the settings: a real PostgreSQL, and folders of its own.

The database is an embedded one, unless TEST_DATABASE_URL names a server; each run has databases of its own on
it. Nothing of the deployment in this checkout (its `.env`, its `var/`) is read or touched.

A plugin (`-p` in pyproject.toml), since pytest-django loads the settings before any conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RESOURCES = contextlib.ExitStack()


def make_folder() -> Path:
    """A short path (sockets live in it), removed after the run."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-tests-", dir="/tmp"))
    RESOURCES.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


SERVER_DIR = make_folder()


def forget_deployment() -> None:
    """Tests ignore the configuration of a gateway in this checkout."""
    os.environ["ENV_FILE"] = os.devnull
    from gateway_project.configuration import Configuration

    for name in Configuration.model_fields:
        os.environ.pop(name.upper(), None)


def prepare_environment() -> None:
    """The deployment that the tests see: a folder, and a database that is there when they begin."""
    forget_deployment()
    var_dir = make_folder()
    (var_dir / "static").mkdir()
    os.environ["VAR_DIR"] = str(var_dir)
    # Here are the providers that tests make.
    os.environ["ALLOWED_PRIVATE_HOSTS"] = "localhost,127.0.0.0/8,::1"
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        # Django makes this run's own database, with `test_` before its name.
        os.environ["DATABASE_URL"] = urlsplit(given)._replace(path=f"/gateway_{os.getpid()}").geturl()
    else:
        os.environ["DATABASE_URL"] = f"postgresql://gateway@/gateway?host={SERVER_DIR}/socket"


def keep_bytecode() -> None:
    """Compile each module once, for the workers and for the hundred programs that they start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


prepare_environment()
keep_bytecode()


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three workers for two cores (`-n auto`): a test waits a third of its time, for a socket, a lease or a start."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_configure(config: pytest.Config) -> None:
    """Start the embedded server, unless workers run the tests: each has its own, for what is unfinished in one
    database is seen by the snapshots of all databases of a server."""
    distributes = not WORKER and getattr(config.option, "numprocesses", None)
    if distributes or os.environ.get("TEST_DATABASE_URL"):
        return
    from gateway_project import embedded_postgres

    url = RESOURCES.enter_context(embedded_postgres.running(SERVER_DIR))
    assert url == os.environ["DATABASE_URL"]
    with psycopg.connect(url, user="postgres", dbname="postgres", autocommit=True) as connection:
        # So that what may only be added to can be deleted between tests (tests/support/gateway.py).
        connection.execute("GRANT SET ON PARAMETER session_replication_role TO gateway")


def pytest_unconfigure(config: pytest.Config) -> None:
    RESOURCES.close()
