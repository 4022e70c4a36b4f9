"""Django's PostgreSQL backend, whose migrations keep to the schema of the tables.

The search path of a connection begins with the arbiter's schema (usage/functions.py). PostgreSQL creates a table or
function that is given without a schema in the first one of the path, so migrations need a path without it. They see the
functions that migrations have made, not those of the version that runs.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any

from django.db import Error
from django.db.backends.postgresql import base
from django.db.backends.postgresql.schema import DatabaseSchemaEditor

from usage.functions import PREFIX

GET = "SELECT current_setting('search_path')"
SET = "SELECT set_config('search_path', %s, false)"


class SchemaEditor(DatabaseSchemaEditor):
    """Within this block, the search path has only the schemas of tables."""

    path: str | None = None

    def __enter__(self) -> Any:
        editor = super().__enter__()
        if not self.collect_sql:
            with self.connection.cursor() as cursor:
                cursor.execute(GET)
                path = str(cursor.fetchone()[0])
                first, _, others = path.partition(",")
                if first.startswith(PREFIX):
                    self.path = path
                    cursor.execute(SET, [others.strip()])
        return editor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        # A transaction that was rolled back has restored the path already.
        if self.path is not None and (error is None or not self.atomic_migration):
            with contextlib.suppress(Error), self.connection.cursor() as cursor:
                cursor.execute(SET, [self.path])


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection with this module's schema editor."""

    SchemaEditorClass = SchemaEditor
