"""Databases beside the tests' own, and connections beside Django's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from keys.connection import parameters
from tests.support.environment import RESOURCES


def admin_connection() -> psycopg.Connection[Any]:
    """A connection beside Django's, to the database that is Django's own now."""
    return psycopg.connect(**parameters(), autocommit=True)


@contextlib.contextmanager
def new_database(suffix: str) -> Iterator[str]:
    """A database beside the tests' own, migrated; its name."""
    base, template = settings.DATABASES["default"]["NAME"], migrated()
    name = f"{base}_{suffix}"
    # A connection each: between them, a test may crash the server.
    with maintenance_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield name
    with maintenance_connection() as link:
        drop_database(link, name)


@cache
def migrated() -> str:
    """A migrated database without connections, which others are copied from; its name. It stays until the run ends."""
    given = parameters() | {"dbname": "postgres"}
    name = f"{settings.DATABASES['default']['NAME']}_migrated"
    with maintenance_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    with using(name):
        call_command("migrate", verbosity=0)

    def drop() -> None:
        with psycopg.connect(**given, autocommit=True) as link:
            drop_database(link, name)

    RESOURCES.callback(drop)
    return name


def drop_database(link: psycopg.Connection[Any], name: str) -> None:
    """Not by `WITH (FORCE)`, which judges an autovacuum worker like a client of another role, and so is refused."""
    if link.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
        link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        throw_out(link, "datname = %s", name)
        link.execute(f'DROP DATABASE "{name}"')


def throw_out(link: psycopg.Connection[Any], whom: str, *values: object) -> None:
    """End these clients' connections, and wait until they are gone. An autovacuum worker that is in a database just
    then is no client: from PostgreSQL 18 on, only members of `pg_signal_autovacuum_worker` may end it."""
    end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    link.execute(f"{end} WHERE backend_type = 'client backend' AND {whom}".encode(), values)


def maintenance_connection() -> psycopg.Connection[Any]:
    """A connection to no database of ours."""
    return psycopg.connect(**(parameters() | {"dbname": "postgres"}), autocommit=True)


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Django's database is this one meanwhile."""
    connection.close()
    before = settings.DATABASES["default"]["NAME"]
    settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = before
