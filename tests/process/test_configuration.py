"""The configuration: complete in its example, and clear about what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from gateway_project import database, env_file
from gateway_project.configuration import BASE_DIR, Configuration, WrongConfiguration, configuration
from keys import connection
from usage import functions

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


def test_each_setting_of_the_example_has_a_comment_that_ends_with_its_default():
    entries = re.findall(r"^((?:# .+\n)*)([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    assert len(entries) == len(Configuration.model_fields)
    for comment, name, value in entries:
        said = comment.replace("\n# ", " ").strip()
        if not value:
            assert re.search(r"(^# |\. )Empty, the default: .+\.$", said), name
        else:
            assert said.endswith((f" Default: {value}.", " Default: the line below.")), name


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
        ("CA_BUNDLE", "/nowhere/ca.pem", "expected the path of an existing file"),
        ("MASTER_KEYS", "too-short", "expected Fernet keys"),
        ("PEPPERS", "salt", "32 or more"),
        ("SECRET_KEY", "hunter2", "50 or more"),
        ("METRICS_TOKEN", "0123456789abcde", "16 or more"),
        ("METRICS_TOKEN", "a token with spaces", "16 or more"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "expected the collector's address"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://alice:secret@collector", "expected the collector's address"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port", "expected a URL"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "expected name=value,name=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0D%0Ac:d", "expected name=value,name=value"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "less than or equal to 1"),
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


@pytest.fixture
def env(tmp_path, monkeypatch):
    """Writes lines into the `.env` of a deployment; what is then said of its names."""

    def said_of(*lines: str) -> str | None:
        (tmp_path / ".env").write_text("\n".join(lines))
        monkeypatch.setitem(Configuration.model_config, "env_file", tmp_path / ".env")
        return env_file.unknown_names()

    return said_of


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("database_ulr", "DATABASE_URL"),
        ("PORTS", "PORT"),
        ("VARDIR", "VAR_DIR"),
        ("RETRIES_ATTEMPTS", "RETRY_ATTEMPTS"),
        ("MASTER_KEY", "MASTER_KEYS"),
        ("GATEWAY_PORT", "PORT"),
        ("DJANGO_SECRET_KEY", "SECRET_KEY"),
        ("DJANGO_DEBUG", "DEBUG"),
        ("SMTP_EMAIL_HOST", "EMAIL_HOST"),
        # Like another program's, and yet a slip.
        ("CELERY_BROKER_URLS", "CELERY_BROKER_URL"),
        ("CELERY_BROKR_URL", "CELERY_BROKER_URL"),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest_setting_and_without_its_value(env, name, near):
    line = env(f"{name}=hunter2", "PORT=9000")
    assert line is not None
    assert f" {name} (is it {near}?)" in line
    assert "hunter2" not in line
    assert "\n" not in line


def test_several_names_are_one_line_and_one_without_a_neighbour_suggests_nothing(env):
    line = env("DATABSE_URL=x", "export QUUX='y'", "HOSTS=z")
    assert line is not None
    assert "unknown settings are ignored: DATABSE_URL (is it DATABASE_URL?), QUUX, HOSTS (is it HOST?)" in line


@pytest.mark.parametrize(
    "name",
    """
    HOST PORT port ROLES AWS_ACCESS_KEY_ID AWS_REGION AWS_PROFILE GOOGLE_APPLICATION_CREDENTIALS GOOGLE_CLOUD_PROJECT
    AZURE_CLIENT_ID AZURE_TENANT_ID IDENTITY_ENDPOINT HTTPS_PROXY https_proxy NO_PROXY no_proxy SSL_CERT_FILE
    REQUESTS_CA_BUNDLE DJANGO_SETTINGS_MODULE DJANGO_SUPERUSER_PASSWORD CELERY_RESULT_BACKEND CELERY_BROKER_READ_URL
    C_FORCE_ROOT PGPASSWORD PGSSLMODE POSTGRES_PASSWORD ANTHROPIC_BASE_URL TZ LANG LC_ALL PATH PYTHONUNBUFFERED
    TEST_DATABASE_URL ENV_FILE
    """.split(),  # noqa: SIM905
)
def test_names_of_settings_and_of_other_programs_are_not_complained_about(env, name):
    assert env(f"{name}=something") is None


def test_the_example_is_not_complained_about(env):
    assert env(*EXAMPLE.read_text().splitlines()) is None


@pytest.mark.parametrize(
    "lines", [["MIIEvQIBADANBgkqhki"], ["dGhpcyBpcyBhIHNlY3JldAo=="], ["hunter2"], ["# HOSTS=x"], [""]]
)
def test_a_line_that_is_not_a_name_is_not_shown(env, lines):
    assert env(*lines) is None


def test_a_missing_file_is_not_complained_about(monkeypatch, tmp_path):
    for file in (tmp_path / "nothing", None, os.devnull):
        monkeypatch.setitem(Configuration.model_config, "env_file", file)
        assert env_file.unknown_names() is None


@pytest.mark.parametrize(
    ("command", "says_it"),
    [
        (["-m", "gateway_project.supervisor"], True),
        (["manage.py", "check"], True),
        (["manage.py", "diffsettings"], False),
    ],
    ids=["start", "check", "another command"],
)
def test_a_wrong_name_is_reported_at_start_and_by_check_but_not_to_scripts(tmp_path, command, says_it):
    (tmp_path / ".env").write_text("HOSTS=nonsense.invalid\nHOST=nonsense.invalid\n")
    environment = os.environ | {"ENV_FILE": str(tmp_path / ".env"), "VAR_DIR": str(tmp_path / "var")}
    answer = subprocess.run(
        [sys.executable, *command], cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False
    )
    said = [line for line in answer.stderr.splitlines() if "HOSTS" in line]
    assert len(said) == says_it
    assert all("unknown settings are ignored: HOSTS (is it HOST?)" in line for line in said)


@pytest.mark.parametrize("content", [b"\xff\xfe=x\n", None], ids=["not UTF-8", "not readable"])
def test_an_env_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, content):
    file = tmp_path / ".env"
    if content is None and os.geteuid() == 0:
        pytest.skip("root reads everything")
    file.write_bytes(content or b"")
    file.chmod(0o600 if content else 0o000)
    monkeypatch.setitem(Configuration.model_config, "env_file", file)
    with pytest.raises(WrongConfiguration, match=r"\.env can't be read: "):
        configuration.__wrapped__()


def test_a_database_url_says_all_that_django_needs():
    parsed = database.parse("postgresql://alice:p%40ss@db.example:5433/ledger?sslmode=require")
    assert (parsed["USER"], parsed["PASSWORD"], parsed["HOST"], parsed["PORT"], parsed["NAME"]) == (
        "alice",
        "p@ss",
        "db.example",
        "5433",
        "ledger",
    )
    assert parsed["OPTIONS"] == {
        "sslmode": "require",
        "options": f"-c jit=off  -c search_path={functions.search_path()}",
    }


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
