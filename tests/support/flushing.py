"""Empties the tests' own database after a test with real transactions.

Django truncates every table and opens a new connection. With a hundred tables and their partitions that takes longer
than most of these tests, and then every statement is planned again, because each truncated table has a new file. Here
the rows are deleted from the tables that have some, and the connection stays.
"""

from __future__ import annotations

from django.db import connection, connections
from django.test import TransactionTestCase
from psycopg.pq import TransactionStatus

from tests.support import databases

# Django would make them again as they were.
KEPT = {"django_content_type", "auth_permission"}


def install() -> None:
    """Have tests with real transactions end this way."""
    TransactionTestCase._fixture_teardown = _end  # type: ignore[attr-defined]
    TransactionTestCase._should_reload_connections = lambda _: False  # type: ignore[attr-defined]


def _end(_: TransactionTestCase) -> None:
    if connection.connection is not None and connection.connection.info.transaction_status != TransactionStatus.IDLE:
        connections.close_all()
    names = connection.introspection.django_table_names(only_existing=False, include_views=False)
    empty(*sorted(set(names) - KEPT))
    if connection.connection is not None:
        connection.connection.execute(databases.RESET)
        connection.init_connection_state()


def empty(*tables: str) -> None:
    """Delete the rows of these tables, those of partitions included."""
    found = " UNION ALL ".join(f"SELECT '{each}' WHERE EXISTS (SELECT FROM {each})" for each in tables)
    with connection.cursor() as cursor:
        cursor.execute(found)
        deletes = "".join(f"DELETE FROM {name};" for (name,) in cursor.fetchall())
        # Without triggers: some tables may only be added to, and all that refer to each other are emptied.
        local = f"SET LOCAL session_replication_role = replica; {deletes} SET LOCAL session_replication_role = origin"
        cursor.execute(f"BEGIN; {local}; COMMIT" if connection.get_autocommit() else local)
