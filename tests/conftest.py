"""Coroutines as tests, and tests that need a server. See support/environment.py for what they all run on."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite(
    "tests.support.accounts",
    "tests.support.file_calls",
    "tests.support.gateway",
    "tests.support.gpt",
    "tests.support.listed_models",
    "tests.support.openai_events",
    "tests.support.client_kinds",
    "tests.support.started_writer",
    "tests.support.walk",
)
# Until all tests are collected: what is made meanwhile stays.
gc.disable()
# A busy machine must not fail a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

from keys.sign_in import Hasher  # noqa: E402
from tests.support import browser, flushing  # noqa: E402
from tests.support.databases import migrated  # noqa: E402
from tests.support.gateway import (  # noqa: E402, F401
    alice,
    apart,
    apart_database,
    collected,
    echo_alice,
    served,
    served_database,
    start_web,
    upstream,
    web,
    web_once,
)
from tests.support.google import google, private_key, service_account  # noqa: E402, F401


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a browser. Skip those that need a server, with a reason, unless the environment names
    one."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        if item.get_closest_marker("needs_server"):
            for variable in ("TEST_DATABASE_URL", "TEST_BROKER_URL"):
                if not os.environ.get(variable):
                    item.add_marker(pytest.mark.skip(reason=f"{variable} is not given"))


def pytest_collection_finish() -> None:
    """Leave what was collected, some million objects, out of each later garbage collection: half a second each."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A coroutine is a test too. Its synchronous parts run in the test's own thread, and so on its connection to the
    database: what fixtures have written is there, and what it writes is rolled back."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    async_to_sync(pyfuncitem.obj)(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, django_db_blocker: Any) -> None:
    """Django's own database of this run is a copy too: migrations take seconds."""
    with django_db_blocker.unblock():
        connection.settings_dict["TEST"]["TEMPLATE"] = migrated()


flushing.install()


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> None:
    """Hashing a password as people's are takes 100 MB and a twentieth of a second."""
    Hasher.time_cost, Hasher.memory_cost, Hasher.parallelism = 1, 8, 1


@pytest.fixture(scope="session")
def running_chromium() -> Iterator[browser.Browser]:
    """Chromium."""
    program = browser.find()
    if program is None:
        pytest.skip("Chromium is missing (on Debian: apt-get install chromium)")
    running = browser.Browser(program)
    yield running
    running.close()


@pytest.fixture
def chromium(running_chromium: browser.Browser) -> Iterator[browser.Window]:
    """A new window of Chromium. Tests that use it are marked `browser`."""
    with running_chromium.window() as window:
        yield window


@pytest.fixture
def broker_url() -> str:
    """A message broker that was there before, for tests marked `needs_server`."""
    return os.environ["TEST_BROKER_URL"]
