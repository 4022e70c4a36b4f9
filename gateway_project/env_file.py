"""Finds names in `.env` that aren't settings: usually typing mistakes, after which the default silently applies."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from gateway_project.configuration import Configuration

# Variables of other programs that read the same file (a container, systemd, a shell that sources it), by prefix.
PREFIXES = (
    *("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCE_", "AZURE_", "IDENTITY_", "MSI_", "IMDS_", "ECS_"),
    *("DJANGO_SUPERUSER_", "CELERY_", "KOMBU_", "FLOWER_", "UVICORN_", "PYTHON", "PIP_", "UV_", "PYTEST_"),
    *("PG", "POSTGRES_", "REDIS_", "RABBITMQ_", "DOCKER_", "COMPOSE_", "KUBERNETES_", "OTEL_", "SENTRY_", "DD_"),
    *("ANTHROPIC_", "OPENAI_", "CLAUDE_", "LC_", "LD_", "MALLOC_", "XDG_", "SSL_", "OPENSSL_", "NSS_"),
)
# The same by full name.
OTHERS = frozenset(
    """
    DJANGO_SETTINGS_MODULE DJANGO_COLORS DJANGO_ALLOW_ASYNC_UNSAFE DJANGO_AUTO_COMPLETE DJANGO_TEST_PROCESSES
    DJANGO_RUNSERVER_HIDE_WARNING DJANGO_WATCHMAN_TIMEOUT C_FORCE_ROOT C_FAKEFORK
    CELERY_BROKER_READ_URL CELERY_BROKER_WRITE_URL
    HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY REQUESTS_CA_BUNDLE CURL_CA_BUNDLE BOTO_CONFIG NO_GCE_CHECK
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TERM TZ TMPDIR TEMP TMP HOSTNAME PWD UID GID PUID PGID UMASK
    NO_COLOR FORCE_COLOR COLUMNS EDITOR PAGER VIRTUAL_ENV DEBIAN_FRONTEND NOTIFY_SOCKET
    ENV_FILE TEST_DATABASE_URL TEST_BROKER_URL RECORDINGS_DIR
    """.split()  # noqa: SIM905
)

# Names that people write for settings. A line of a multi-line key without quotes can look like a name, but mixes upper
# and lower case.
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}|[a-z][a-z0-9_]{0,63}")
# Similarity of two names, from 0 to 1. ALIKE: suggested; VERY_ALIKE: suggested before other candidates; SAME: taken for
# a typing mistake even with another program's prefix.
ALIKE, VERY_ALIKE, SAME = 0.6, 0.8, 0.9


def unknown_names() -> str | None:
    """One line about unknown names, each with the setting that it may mean; never a value. None if all are known."""
    file = Configuration.model_config.get("env_file")
    if not isinstance(file, (str, Path)) or not Path(file).is_file():
        return None
    found = [
        f"{name} (is it {near}?)" if near else name for name, near in slips(dotenv_values(file, interpolate=False))
    ]
    if not found:
        return None
    return f"{file}: unknown settings are ignored: {', '.join(found)}. See .env.example for all settings."


def slips(variables: Mapping[str, str | None]) -> Iterator[tuple[str, str | None]]:
    """Names that are neither settings nor another program's variables, each with the most similar setting."""
    settings = [name.upper() for name in Configuration.model_fields]
    for name, value in variables.items():
        upper = name.upper()
        if upper in settings or upper in OTHERS or value is None or not NAME.fullmatch(name):
            continue
        if not upper.startswith(PREFIXES) or difflib.get_close_matches(upper, settings, 1, SAME):
            yield name, nearest(upper, settings)


def nearest(name: str, settings: list[str]) -> str | None:
    """The setting with the most similar name, or one whose whole name is a part of it, as PORT is of GATEWAY_PORT."""
    within = sorted((setting for setting in settings if f"_{setting}_" in f"_{name}_"), key=len)[-1:]
    likeliest = difflib.get_close_matches(name, settings, 1, VERY_ALIKE) or within
    return next(iter(likeliest or difflib.get_close_matches(name, settings, 1, ALIKE)), None)
