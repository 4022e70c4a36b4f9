"""Error messages of commands when something that they need isn't running or set up: one line that says what to do.

Any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import django
import psycopg
from django.conf import settings
from django.db import DatabaseError, OperationalError, ProgrammingError, connection
from kombu.exceptions import OperationalError as BrokerError

from gateway_project.configuration import configuration
from usage import functions

# Django's commands that show another error, or a question, if the database is unavailable.
HIDE_IT = {"dbshell", "dumpdata", "runserver", "test", "testserver"}

AS_GATEWAY_USER = "run this as the user that runs the gateway."

# https://www.postgresql.org/docs/current/errcodes-appendix.html: undefined table, column, function, schema.
UNDEFINED = {"42P01", "42703", "42883", "3F000"}
# The connection broke, or the server is stopping or starting.
LOST = ("08", "57P01", "57P02", "57P03")

REFUSED_LOGIN = re.compile(r"authentication failed|no password supplied|role .* does not exist")
NO_DATABASE = re.compile(r"database .* does not exist")
NOT_NOW = re.compile(r"starting up|shutting down|recovery|not (?:yet )?accepting|too many|connection slots")
NOT_THERE = re.compile(r"refused|No such file|resolve|time|No route|unreachable|closed|reset|lost|abort")


def check(arguments: Sequence[str]) -> None:
    """Check the database before one of Django's commands that would hide that it is unavailable.

    Raises:
        OperationalError: the database can't be reached.
        MissingMigrations: the database lacks migrations that `dumpdata` needs.
    """
    if len(arguments) > 1 and arguments[1] in HIDE_IT and not {"-h", "--help"} & set(arguments):
        django.setup()
        connection.ensure_connection()
        if arguments[1] == "dumpdata" and next(missing_migrations(), None):
            raise MissingMigrations


class MissingMigrations(Exception):
    """The database lacks tables that the program expects."""


def explain(error: BaseException) -> str | None:
    """One line for people if the error means that something isn't running or set up; else None."""
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None) or ""
    match error:
        case OperationalError() | psycopg.OperationalError():
            lost = not state or state.startswith(LOST)
            return (
                about_connection(reason_of(error))
                if lost
                else f"The database couldn't complete the command: {reason_of(error)}."
            )
        case ProgrammingError() | psycopg.ProgrammingError() if state in UNDEFINED:
            return about_migrations()
        case MissingMigrations():
            return about_migrations()
        case BrokerError():
            return about_broker()
        case PermissionError(filename=str(name)) if is_of_deployment(Path(name)):
            return f"{name} can't be read by the user {getpass.getuser()}: {AS_GATEWAY_USER}"
    return None


def reason_of(error: BaseException) -> str:
    """The message of libpq or the server, without address and severity."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return re.sub(r"^connection (?:failed|is bad): |connection to server .*? failed: |FATAL: +", "", lines[0])


def about_connection(reason: str) -> str:
    return about_server(reason) if configuration().database_url else about_embedded(reason)


def about_embedded(reason: str) -> str:
    var_dir = configuration().var_dir.resolve()
    if "Permission denied" in reason:
        return f"The gateway's database can't be reached by the user {getpass.getuser()}: {AS_GATEWAY_USER}"
    if supervisor_runs(var_dir / "run"):
        return f"The gateway's database accepts no connections now ({reason}); see {var_dir / 'log' / 'postgres.log'}."
    return (
        f"The gateway with its data in {var_dir} is not running, and neither is its database: start it with "
        "`make run`, or set DATABASE_URL."
    )


def supervisor_runs(run_dir: Path) -> bool:
    try:
        pid = int((run_dir / "supervisor.lock").read_text())
        return b"gateway_project.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def about_server(reason: str) -> str:
    database = settings.DATABASES["default"]
    server = f"DATABASE_URL: PostgreSQL {place_of(str(database['HOST']), str(database['PORT']))}"
    if REFUSED_LOGIN.search(reason):
        return f"{server} refuses the user “{database['USER']}” or the password: correct them in DATABASE_URL."
    if NO_DATABASE.search(reason):
        return f"{server} has no database “{database['NAME']}”: create it, or correct the name."
    if NOT_NOW.search(reason):
        return f"{server} accepts no connections now ({reason}): try again in a moment."
    if NOT_THERE.search(reason):
        return f"{server} is not running or can't be reached ({reason}): start it, or correct the address."
    return f"{server} can't be used: {reason}"


def place_of(host: str, port: str) -> str:
    if not host or host.startswith("/"):
        return f"at the socket in {host or 'its usual folder'}"
    return f"at {host}, port {port or 5432}"


def about_migrations() -> str | None:
    """One line if migrations or the arbiter's functions are missing; else a query of the program is wrong: None."""
    try:
        names = list(missing_migrations())
        if not names:
            return None if functions.are_made() else str(functions.ArbiterMissing())
    except DatabaseError:
        return None
    return (
        f"The database lacks tables: {len(names)} migrations are missing, from {names[0]} on. Run `manage.py migrate`, "
        "or `make run`, which does it too."
    )


def missing_migrations() -> Iterator[str]:
    from django.db.migrations.executor import MigrationExecutor

    # The failed query may have left the transaction aborted, in which no further query runs.
    connection.close()
    executor = MigrationExecutor(connection)
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield f"{migration.app_label}.{migration.name}"


def about_broker() -> str:
    url = urlsplit(configuration().celery_broker_url)
    place = f"at {url.hostname}, port {url.port or 'as usual'}" if url.hostname else "in the data folder"
    return (
        f"CELERY_BROKER_URL: the message broker {place} is not running or can't be reached: start it, or leave "
        "CELERY_BROKER_URL empty."
    )


def is_of_deployment(path: Path) -> bool:
    """Whether this file belongs to the gateway's data folder, which other users can't read."""
    return Path(os.path.abspath(path)).is_relative_to(configuration().var_dir.absolute())
