"""Databases beside the tests' own, and connections beside Django's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from psycopg.pq import TransactionStatus

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


@functools.cache
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
def using(name: str, *, keep: bool = False) -> Iterator[None]:
    """Django's database is this one meanwhile.

    Args:
        keep: keep the connection for the next time. It has compiled the triggers and planned their queries, which takes
            longer than what a usual test asks. The database can't be a template then.
    """
    connection.close()
    before = settings.DATABASES["default"]["NAME"]
    settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = name
    if keep:
        connect = functools.partial(kept_or_new, connection.get_new_connection, name)
        connection.get_new_connection = connect  # type: ignore[method-assign]
    try:
        yield
    finally:
        link = connection.connection
        if keep:
            del connection.get_new_connection
            if link is not None and link.info.transaction_status == TransactionStatus.IDLE:
                KEPT[name], connection.connection = link, None
        connection.close()
        settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = before


KEPT: dict[str, psycopg.Connection[Any]] = {}
RESET = "RESET ALL; RESET ROLE; DISCARD TEMP; UNLISTEN *; SELECT pg_advisory_unlock_all()"


def kept_or_new(connect: Callable[[Any], Any], name: str, given: Any) -> Any:
    """The connection that was kept for this database, as a new one would be; or a new one."""
    if (link := KEPT.pop(name, None)) is not None:
        try:
            link.autocommit = True
            link.execute(RESET)
        except psycopg.Error:  # a test has ended the server or its connections
            link.close()
        else:
            return link
    return connect(given)
