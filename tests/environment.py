"""What every test stands on, made before anything reads the settings: a real PostgreSQL, and folders of its own.

The database is an embedded one, started once for all workers, unless TEST_DATABASE_URL names a server; each run has
databases of its own on it. Nothing of the deployment in this checkout (its `.env`, its `var/`) is read or touched.

A plugin (`-p` in pyproject.toml), since pytest-django loads the settings before any conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RESOURCES = contextlib.ExitStack()


def make_folder() -> Path:
    """A short path (sockets live in it), removed after the run."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-tests-", dir="/tmp"))
    RESOURCES.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def forget_deployment() -> None:
    """Whatever is configured for a gateway here is not for its tests."""
    os.environ["ENV_FILE"] = os.devnull
    from gateway_project.configuration import Configuration

    for name in Configuration.model_fields:
        os.environ.pop(name.upper(), None)


def find_database() -> str:
    """The URL of a database that this run has for itself. Django makes it, with `test_` before its name."""
    given = os.environ.get("TEST_DATABASE_URL")
    if not given:
        from gateway_project import embedded_postgres

        return RESOURCES.enter_context(embedded_postgres.running(make_folder()))
    return urlsplit(given)._replace(path=f"/gateway_{os.getpid()}").geturl()


def prepare_environment() -> None:
    """Before anything reads the settings. Workers inherit the database of the process that started them."""
    forget_deployment()
    if not WORKER:
        os.environ["DATABASE_URL_OF_TESTS"] = find_database()
    os.environ["DATABASE_URL"] = os.environ["DATABASE_URL_OF_TESTS"]
    os.environ["VAR_DIR"] = str(make_folder())


prepare_environment()


def pytest_unconfigure(config: pytest.Config) -> None:
    RESOURCES.close()
