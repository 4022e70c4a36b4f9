"""The configuration: complete in its example, and clear about what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from gateway_project import database
from gateway_project.configuration import BASE_DIR, Configuration, WrongConfiguration, configuration
from keys import connection

EXAMPLE = BASE_DIR / ".env.example"


@pytest.fixture
def read(monkeypatch):
    """Reads the configuration from these variables."""

    def read_with(**variables: str) -> Configuration:
        for name in Configuration.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return configuration.__wrapped__()

    return read_with


def test_the_example_has_every_setting_and_no_other():
    documented = re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(name.upper() for name in Configuration.model_fields)


def test_the_example_as_it_is_changes_nothing(read):
    defaults = read()
    assert Configuration(_env_file=EXAMPLE) == defaults


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "eighty", "integer"),
        ("PORT", "70000", "65535"),
        ("ROLES", "api,cook", "expected some of api, admin, worker, beat"),
        ("DATABASE_URL", "mysql://alice@host/name", "expected postgresql://"),
        ("DATABASE_URL", "postgresql://host", "expected postgresql://"),
        ("DATABASE_URL", "postgresql://host:port/name", "expected a URL"),
        ("CELERY_BROKER_URL", "carrier-pigeon://", "expected a URL that starts with"),
        ("OUTBOUND_PROXY", "proxy:3128", "expected a URL like"),
        ("PASSTHROUGH_BASE_URL", "api.anthropic.com", "expected a URL like"),
        ("TRUSTED_ORIGINS", "gateway.internal", "expected origins like"),
        *(
            ("CORS_ORIGINS", value, "expected origins as browsers send them")
            for value in (
                "app.internal",
                "https://app.internal/",
                "https://app.internal/chat",
                "https://*.internal",
                "https://App.internal",
                "https://app.internal:443",
                "http://a.internal, *",
                "null",
            )
        ),
        ("CA_BUNDLE", "/nowhere/ca.pem", "expected a file"),
        ("MASTER_KEYS", "too-short", "expected Fernet keys"),
        ("PEPPERS", "salt", "32 or more"),
        ("SECRET_KEY", "hunter2", "50 or more"),
        ("METRICS_TOKEN", "0123456789abcde", "16 or more"),
        ("METRICS_TOKEN", "a token with spaces", "16 or more"),
        ("UNPRICED_MODELS", "free", "'high-rate' or 'refuse'"),
        ("LEASE_SECONDS", "soon", "number"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_but_not_shown(read, name, value, expected):
    with pytest.raises(WrongConfiguration) as caught:
        read(**{name: value})
    line = str(caught.value)
    assert line.startswith(f"{name}: ")
    assert expected in line
    assert "\n" not in line
    assert value not in line.removeprefix(name)


def test_origins_of_pages_are_taken_as_browsers_send_them(read):
    given = ["https://app.example", "http://localhost:5173", "http://[::1]:8080", "chrome-extension://abcdef"]
    assert read(CORS_ORIGINS=", ".join(given)).cors_origins == given
    assert read(CORS_ORIGINS="*").cors_origins == ["*"]


def test_lists_are_separated_by_commas(read):
    assert read(ALLOWED_HOSTS="one.example, two.example,").allowed_hosts == ["one.example", "two.example"]


@pytest.mark.parametrize("command", [["manage.py", "check"], ["-m", "gateway_project.supervisor"]])
def test_a_wrong_value_stops_every_start_in_one_line(command):
    environment = os.environ | {"PORT": "eighty"}
    answer = subprocess.run(
        [sys.executable, *command], cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("PORT: ")
    assert answer.stderr.count("\n") == 1


def test_a_database_url_says_all_that_django_needs():
    parsed = database.parse("postgresql://alice:p%40ss@db.example:5433/ledger?sslmode=require")
    assert (parsed["USER"], parsed["PASSWORD"], parsed["HOST"], parsed["PORT"], parsed["NAME"]) == (
        "alice",
        "p@ss",
        "db.example",
        "5433",
        "ledger",
    )
    assert parsed["OPTIONS"] == {"sslmode": "require", "options": "-c jit=off"}


@pytest.mark.django_db
def test_server_settings_in_a_database_url_reach_every_connection(settings, monkeypatch):
    given = settings.DATABASES["default"]
    parsed = database.parse(f"{database.url_of(given)}&options=-c%20geqo=off")
    monkeypatch.setitem(given, "OPTIONS", parsed["OPTIONS"])
    with psycopg.connect(**connection.parameters("-c lock_timeout=5000")) as link:
        shown = [next(link.execute(f"SHOW {name}"))[0] for name in ("geqo", "jit", "lock_timeout")]
    assert shown == ["off", "off", "5s"]


@pytest.mark.parametrize(
    "url", ["postgresql://alice:p%40ss%2F@db.example:5433/ledger", "postgresql://gateway@/gateway?host=/tmp/a%20b"]
)
def test_a_url_survives_the_way_through_django(url):
    assert database.parse(database.url_of(database.parse(url))) == database.parse(url)


def test_commands_find_the_embedded_database_by_themselves(tmp_path: Path):
    file = tmp_path / database.URL_FILE
    file.parent.mkdir()
    file.write_text("postgresql://gateway@/gateway?host=/here\n")
    assert database.settings("", tmp_path)["HOST"] == "/here"
    assert database.settings("postgresql://db.example/ledger", tmp_path)["HOST"] == "db.example"
