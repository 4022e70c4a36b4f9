"""The arbiter's SQL functions, in a schema named after their content.

Tables, the types of columns, triggers and what triggers call belong to migrations, which never change once they have
landed. All other functions, and the types that only functions use, are in usage/arbiter/. `make` puts them into the
schema `arbiter_<hash>`; it runs after every `migrate` (usage/apps.py). The search path of every connection begins with
the schema of the process's own code (gateway_project/database.py), so the processes of two versions work side by side
while a deployment is upgraded. `drop_unused` removes the schemas of versions that are gone.

This module doesn't import Django, because the settings import it.
"""

from __future__ import annotations

import hashlib
import re
import types
import typing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from usage.arbitration import Admission, HoldColumns, Settlement, UsageColumns

FOLDER = Path(__file__).resolve().parent / "arbiter"
# In this order, because a type or SQL function must exist before a function that uses it.
FILES = (
    "types.sql",
    "model_names.sql",
    "windows.sql",
    "applying.sql",
    "counters.sql",
    "rows.sql",
    "alerts.sql",
    "admissions.sql",
    "settlements.sql",
    "group.sql",
    "why.sql",
    "attempts.sql",
    "batches.sql",
    "late.sql",
)
PREFIX = "arbiter_"
# Where PostgreSQL looks for tables, unless it is configured otherwise.
USUAL_PATH = '"$user",public'
# Workers don't register as web processes do: they must be replaced within this time after the last web process of their
# version. Pages-only processes note every hour that they use their version (gateway_project/pages_alone.py).
KEPT = timedelta(days=7)

# The structs that placeholders name, and the SQL types of their fields.
SHAPES: dict[str, type[msgspec.Struct]] = {
    "held": HoldColumns,
    "admission": Admission,
    "tokens": UsageColumns,
    "settlement": Settlement,
}
SQL_TYPES = {UUID: "uuid", int: "bigint", Decimal: "numeric(30, 12)", str: "text", bool: "boolean"}
LISTS: dict[Any, str] = {list[Decimal]: "numeric[]"}
PLACEHOLDER = re.compile(r"\{\{(\w+): (.+?)\}\}")


class ArbiterMissing(Exception):
    """The database lacks the functions of this version: `migrate` was not run with its code."""

    def __init__(self) -> None:
        super().__init__(
            f"The database lacks the arbiter of this version ({SCHEMA}): run `manage.py migrate` with its code."
        )


def columns(shape: type[msgspec.Struct]) -> dict[str, str]:
    """The columns that a struct's fields name, with their SQL types."""
    return {name: _sql_type(hint) for name, hint in typing.get_type_hints(shape).items()}


def _sql_type(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    return LISTS.get(hint) or SQL_TYPES.get(hint, "jsonb")


def _defaults(shape: type[msgspec.Struct]) -> dict[str, str]:
    """The SQL literal of a column's default; NULL if the column needs a value."""
    found = {}
    for field in msgspec.structs.fields(shape):
        value = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            value = field.default_factory()
        if value is msgspec.NODEFAULT or value is None:
            found[field.name] = "NULL"
        elif isinstance(value, str):
            found[field.name] = f"'{value}'"
        elif isinstance(value, (list, dict)):
            found[field.name] = f"'{msgspec.json.encode(value).decode()}'"
        else:
            found[field.name] = str(value).lower()
    return found


def fill_in(text: str) -> str:
    """SQL with its placeholders filled in. `{{shape: pattern}}` becomes the pattern once for each column of the shape,
    with commas: `#` stands for the column's name, `@` for its type, `?` for its default."""

    def list_of(match: re.Match[str]) -> str:
        shape, pattern = SHAPES[match[1]], match[2]
        defaults = _defaults(shape)
        return ", ".join(
            pattern.replace("#", name).replace("@", sql_type).replace("?", defaults[name])
            for name, sql_type in columns(shape).items()
        )

    return PLACEHOLDER.sub(list_of, text)


SQL = "\n".join(fill_in((FOLDER / name).read_text()) for name in FILES)
SCHEMA = PREFIX + hashlib.sha256(SQL.encode()).hexdigest()[:12]

# Not by to_regnamespace: within a transaction, it doesn't see a schema that another one has just created.
IS_MADE = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
# Only one process at a time creates or drops schemas.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('usage_arbiter'))"
# Every role that may use the tables may use the functions, which run with the caller's rights.
CREATE = f"CREATE SCHEMA {SCHEMA}; GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC"
NOTE_USE = """
INSERT INTO usage_arbiterversion AS v (schema, used_at) VALUES (%s, clock_timestamp())
ON CONFLICT (schema) DO UPDATE SET used_at = excluded.used_at WHERE v.used_at < excluded.used_at - interval '1 minute'
"""
# Search paths of the role or the database, which the program's own would hide.
CONFIGURED_PATHS = """
SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND setrole IN (0, current_user::regrole) AND setting LIKE 'search_path=%%'
    AND current_setting('search_path') = %s
"""
IN_USE = """
UPDATE usage_arbiterversion v SET used_at = clock_timestamp()
WHERE schema = %s OR EXISTS (SELECT FROM usage_process p WHERE p.arbiter = v.schema)
"""
UNUSED = """
SELECT schema FROM usage_arbiterversion
WHERE schema <> %s AND used_at < clock_timestamp() - make_interval(secs => %s) ORDER BY schema
"""


def search_path(tables: str = USUAL_PATH) -> str:
    """A search path that finds this version's functions first, then tables; without spaces, as libpq wants it."""
    return f"{SCHEMA},{tables}"


def check_search_path(using: str = "default") -> None:
    """Check that the program's search path finds the same tables as before.

    Raises:
        CommandError: the role or the database has a search path of its own, which this program's hides.
    """
    from django.core.management import CommandError
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute(CONFIGURED_PATHS, [search_path()])
        paths = {str(row[0]).replace(" ", "") for row in cursor.fetchall()} - {USUAL_PATH, "public"}
    if paths:
        raise CommandError(
            f"The search path {min(paths)} of the role or the database has no effect: give it with DATABASE_URL, as "
            "…?options=-csearch_path%3DSCHEMA."
        )


def are_made(using: str = "default") -> bool:
    """Whether this version's schema exists."""
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute(IS_MADE, [SCHEMA])
        found: bool = cursor.fetchone()[0]
    return found


def are_possible(using: str = "default") -> bool:
    """Whether the tables have the form that this version's functions need."""
    from django.db import connections
    from django.db.migrations.loader import MigrationLoader

    if are_made(using):
        return True
    loader = MigrationLoader(connections[using])
    return all(leaf in loader.applied_migrations for app in ("keys", "usage") for leaf in loader.graph.leaf_nodes(app))


def make(using: str = "default") -> bool:
    """Create this version's schema, completely or not at all. Returns True if it did not exist. A repetition changes
    nothing; of several processes at once, one creates it.

    Raises:
        CommandError: the role may not create schemas in this database.
    """
    from django.core.management import CommandError
    from django.db import ProgrammingError, connections, transaction

    with transaction.atomic(using), connections[using].cursor() as cursor:
        cursor.execute(IS_MADE, [SCHEMA])
        made: bool = cursor.fetchone()[0]
        if not made:
            cursor.execute(LOCK)
            cursor.execute(IS_MADE, [SCHEMA])
            made = cursor.fetchone()[0]
        if not made:
            try:
                cursor.execute(CREATE)
            except ProgrammingError as error:
                if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                    raise
                raise CommandError(
                    f"{error}: GRANT CREATE ON DATABASE, or run `manage.py migrate` as its owner."
                ) from None
            cursor.execute(SQL)
        cursor.execute(NOTE_USE, [SCHEMA])
    return not made


async def check(connection: psycopg.AsyncConnection) -> None:
    """Check that this version's schema exists.

    Raises:
        ArbiterMissing: it doesn't exist.
    """
    row = await (await connection.execute(IS_MADE, [SCHEMA])).fetchone()
    if row != (True,):
        raise ArbiterMissing


async def note_use(connection: psycopg.AsyncConnection) -> None:
    """Note that this version is in use, so that the hourly task keeps it.

    Raises:
        ArbiterMissing: its schema is not there.
    """
    await check(connection)
    await connection.execute(NOTE_USE, [SCHEMA])


def drop_unused(kept: timedelta = KEPT) -> list[str]:
    """Drop the schemas that no process has used for this long, and return their names. The version that runs this
    function is in use, and so is each version of a registered web process.
    """
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        cursor.execute(IN_USE, [SCHEMA])
        cursor.execute(UNUSED, [SCHEMA, kept.total_seconds()])
        unused = [row[0] for row in cursor.fetchall()]
        for schema in unused:
            assert re.fullmatch(PREFIX + "[0-9a-f]+", schema)
            cursor.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            cursor.execute("DELETE FROM usage_arbiterversion WHERE schema = %s", [schema])
    return unused
