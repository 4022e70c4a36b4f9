"""Numbers of transactions, by which watermarks go: roll-ups, checkpoints, statements and archived months.

On a server where the database was always, they are PostgreSQL's own. A dump that is loaded into another server meets
other, mostly lower ones: rows written there would be below every watermark, and never be summed. So `mend` adds an
offset to the server's numbers, for good. Everything that asks for a number uses `usage_numbered`.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg import sql

SQL = Path(__file__).resolve().parent / "sql" / "restored_copies.sql"

# The lowest number of running transactions.
HORIZON = "usage_numbered(pg_snapshot_xmin(pg_current_snapshot()))"

BESIDE_THE_TABLES = """
SELECT set_config('search_path', relnamespace::regnamespace::text, true) FROM pg_class
WHERE oid = to_regclass('usage_ledgerentry')
"""
# Tables that have numbers of transactions, wherever they are.
COLUMNS = """
SELECT c.oid::regclass::text, a.attname, a.atttypid = 'xid8'::regtype
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attname IN ('xid', 'from_xid', 'below_xid') AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND n.nspname !~ '^pg_|^information_schema$'
    AND c.relname ~ '^(usage|billing|keys|reconciliation)_'
"""
# An index on the ledger's column answers the first form.
LAST = "SELECT {column}::text::numeric FROM {table} ORDER BY {column} DESC LIMIT 1"
HIGHEST = "SELECT max({column}::numeric) FROM {table}"
OFFSET = "CREATE OR REPLACE FUNCTION usage_xid_offset() RETURNS numeric LANGUAGE sql IMMUTABLE RETURN {}::numeric"
DEFAULT = "ALTER TABLE {} ALTER COLUMN xid SET DEFAULT usage_numbered(pg_current_xact_id())"
WRITTEN_BY_DEFAULT = ("usage_ledgerentry", "usage_adjustment")


def mend(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Make the numbers of all transactions from now on higher than any that the database has stored. Call it before
    anything is written after a load; repeating it changes nothing that matters.

    Args:
        connection: within one transaction of its own, or in autocommit mode.

    Returns:
        How much is added to the server's own numbers; 0: nothing is.
    """
    with connection.transaction():
        # The program's search path begins with the arbiter's schema, where these functions must not be made.
        connection.execute(BESIDE_THE_TABLES)
        connection.execute(SQL.read_bytes())
        highest = 0
        for table, column, is_xid in connection.execute(COLUMNS).fetchall():
            query = sql.SQL(LAST if is_xid else HIGHEST).format(
                column=sql.Identifier(str(column)),
                table=sql.SQL(str(table)),  # quoted by PostgreSQL
            )
            row = connection.execute(query).fetchone()
            highest = max(highest, int(str(row[0])) if row and row[0] is not None else 0)
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        offset = max(0, highest + 1 - int(str(row[0])))
        connection.execute(sql.SQL(OFFSET).format(sql.Literal(offset)))
        if offset:
            for name in WRITTEN_BY_DEFAULT:
                connection.execute(sql.SQL(DEFAULT).format(sql.Identifier(name)))
    return offset
