"""How migrations run while calls are served: the rule, and the operations that keep to it.

- `manage.py migrate` waits for a lock for `LOCK_TIMEOUT` at most, because calls queue behind a migration that waits.
  It then gives up the whole migration, and tries again after a pause.
- An index on a table that exists is made by `AddIndexWithoutLock`, or `CREATE INDEX CONCURRENTLY` by hand.
- Rows are moved by `InBatches`, in short transactions of their own.
- What rewrites or scans a table under a lock is refused by a test: `faults`.

Migrations with such operations have `atomic = False`, so each operation must be one that can be repeated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently, NotInTransactionMixin
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.operations.base import Operation
from django.db.utils import NotSupportedError

# In milliseconds. A call that queues behind a migration waits no longer than this at a time.
LOCK_TIMEOUT = 200
# In seconds: how long calls have the table to themselves between two tries.
PAUSE = 0.5
TRIES = 600

# Lock not available, and deadlock detected: the other side had the lock, and nothing is wrong with the migration.
AGAIN = ("55P03", "40P01")

PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
WHERE inhparent = to_regclass(%s) AND relkind = 'p' ORDER BY 1
"""
CREATED = re.compile(r'\bCREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?"?(\w+)"?', re.I)
INDEX = re.compile(
    r'\bCREATE (?:UNIQUE )?INDEX (?P<concurrently>CONCURRENTLY )?(?:IF NOT EXISTS )?"?\w*"? ?'
    r'ON (?:ONLY )?"?(?P<table>\w+)"?',
    re.I,
)
ALTERED = re.compile(r'\bALTER TABLE (?:ONLY )?(?:IF EXISTS )?"?(?P<table>\w+)"? (?P<what>.*)', re.I | re.S)
# What reads or writes each row of a table while it is locked.
LONG = {
    "changes a column's type": re.compile(r"\bALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE\b", re.I),
    "scans for NULL: add a CHECK … NOT VALID, and validate it in a migration of its own": re.compile(
        r"\bSET NOT NULL\b", re.I
    ),
    "builds an index: make it CONCURRENTLY, and add the constraint USING INDEX": re.compile(
        r"\bADD CONSTRAINT \S+ (?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?! USING INDEX)", re.I
    ),
    "scans for the constraint: add it NOT VALID, and validate it in a migration of its own": re.compile(
        r"\bADD CONSTRAINT \S+ (?:CHECK|FOREIGN KEY)\b(?!.*\bNOT VALID\b)", re.I | re.S
    ),
}
ROWS = re.compile(r'^\s*(?:UPDATE|DELETE FROM) (?:ONLY )?"?(?P<table>\w+)"?', re.I)
BODY = re.compile(r"(\$\w*\$).*?\1", re.S)
COMMENT = re.compile(r"--[^\n]*")


def patiently(connection: BaseDatabaseWrapper, migrate: Callable[[], Any], waits: Callable[[int], None]) -> None:
    """Run `migrate`, and again while others hold the locks that it needs.

    Args:
        migrate: applies what isn't applied yet; a migration that fails leaves nothing, or can be repeated.
        waits: gets the number of the try that had to give up.

    Raises:
        OperationalError: the last of `TRIES` got no lock, or something else failed.
    """
    for number in range(1, TRIES + 1):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT}ms"])
        try:
            migrate()
            return
        except OperationalError as error:
            if number == TRIES or getattr(error.__cause__, "sqlstate", None) not in AGAIN:
                raise
            waits(number)
            time.sleep(PAUSE)
        finally:
            if connection.connection is not None and not connection.connection.closed:
                with connection.cursor() as cursor:
                    cursor.execute("RESET lock_timeout")


class AddIndexWithoutLock(AddIndexConcurrently):
    """Django's `AddIndexConcurrently`, which can be repeated: PostgreSQL leaves an invalid index if it is cut off.

    It waits for open transactions without a limit. Neither calls nor pages wait for it meanwhile.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Make the index, unless there is a valid one of this name; on a partitioned table, one partition at a time."""
        if schema_editor.collect_sql:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        self._ensure_not_in_transaction(schema_editor)
        model = to_state.apps.get_model(app_label, self.model_name)
        statement = str(self.index.create_sql(model, schema_editor))
        quote = schema_editor.quote_name
        table, name = quote(model._meta.db_table), quote(self.index.name)
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(PARTITIONS, [table])
            partitions = [found for (found,) in cursor.fetchall()]
            if not partitions:
                _make(cursor, statement, name)
                return
            cursor.execute("SELECT to_regclass(%s)", [name])
            if cursor.fetchone() == (None,):
                # It becomes valid when each partition has its part. A partition that is made meanwhile has one.
                cursor.execute(statement.replace(f"ON {table}", f"ON ONLY {table}", 1))
            for partition in partitions:
                part = quote(f"{self.index.name}_{partition.rpartition('_')[2]}")
                cursor.execute("SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)", [part])
                if cursor.fetchone() is None:
                    named = statement.replace(name, part, 1).replace(f"ON {table}", f"ON {quote(partition)}", 1)
                    _make(cursor, named, part)
                    cursor.execute(f"ALTER INDEX {name} ATTACH PARTITION {part}")


def _make(cursor: Any, statement: str, name: str) -> None:
    """Make one index without a lock that calls notice."""
    cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
    found = cursor.fetchone()
    if found == (True,):
        return
    cursor.execute("SELECT set_config('lock_timeout', '0', false)")
    if found:
        cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
    cursor.execute(statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1))
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT}ms"])


class InBatches(NotInTransactionMixin, Operation):
    """Repeats a statement, each time in a transaction of its own, until it finds no row.

    The statement names the rows that are left and takes some of them only, without waiting for calls:
    `UPDATE t SET new = old WHERE id IN (SELECT id FROM t WHERE new IS NULL LIMIT 1000 FOR UPDATE SKIP LOCKED)`.
    Rows that a call holds meanwhile are found by the last turn, which is made without `SKIP LOCKED`.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Rows change, tables don't."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Move all rows.

        Raises:
            NotSupportedError: the migration is atomic, or the statement takes all rows at once.
        """
        self._ensure_not_in_transaction(schema_editor)
        if not re.search(r"\bLIMIT \d", self.sql, re.I):
            raise NotSupportedError(f"A statement in batches has a LIMIT: {self.sql}")
        for sql in (self.sql, re.sub(r"\s+SKIP LOCKED\b", "", self.sql, flags=re.I)):
            if schema_editor.collect_sql:
                schema_editor.execute(sql)
                continue
            with schema_editor.connection.cursor() as cursor:
                moved = 1
                while moved:
                    cursor.execute(sql)
                    moved = cursor.rowcount

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Nothing: the column or table that was filled goes with the migration that made it."""

    def describe(self) -> str:
        """For `migrate --plan`."""
        return "Move rows in batches"


def faults(statements: list[str]) -> Iterator[str]:
    """What in a migration's SQL would keep calls waiting, each as a line. Tables that it creates have no readers yet.

    Args:
        statements: as `MigrationLoader.collect_sql` gives them.
    """
    whole = "\n".join(COMMENT.sub("", BODY.sub("''", statement)) for statement in statements)
    new = {name.lower() for name in CREATED.findall(whole)}
    for statement in whole.split(";"):
        for index in INDEX.finditer(statement):
            if not index["concurrently"] and index["table"].lower() not in new:
                yield f"makes an index of {index['table']} under a lock: use AddIndexWithoutLock"
        altered = ALTERED.search(statement)
        if altered and altered["table"].lower() not in new:
            for why, pattern in LONG.items():
                if pattern.search(altered["what"]):
                    yield f"{altered['table']}: {why}"
        rows = ROWS.match(statement)
        if rows and rows["table"].lower() not in new and not re.search(r"\bLIMIT \d", statement, re.I):
            yield f"changes all rows of {rows['table']} at once: use InBatches"
