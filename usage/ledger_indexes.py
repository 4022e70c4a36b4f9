"""How migrations make indexes of a ledger that has rows.

An index of a partitioned table can't be made concurrently. So each partition gets its index first, while calls are
settled, and then becomes a part of the whole table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTITIONS = """
SELECT c.oid::regclass::text, replace(c.relname, 'usage_ledgerentry', ''), n.nspname
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = 'usage_ledgerentry'::regclass ORDER BY c.relname
"""
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


def make(cursor: Any, indexes: Mapping[str, str]) -> None:
    """Create the indexes that are missing or unfinished. Call it outside of a transaction.

    Args:
        indexes: what follows `ON usage_ledgerentry`, by the index's name.
    """
    cursor.execute(PARTITIONS)
    partitions = cursor.fetchall()
    for index, definition in indexes.items():
        cursor.execute(IS_VALID, [index])
        found = cursor.fetchone()
        if found == (True,):
            continue
        if found is None:
            cursor.execute(f"CREATE INDEX {index} ON ONLY usage_ledgerentry {definition}")
        for table, suffix, place in partitions:
            part = f"{index}{suffix}"
            cursor.execute(IS_VALID, [f"{place}.{part}"])
            made = cursor.fetchone()
            if made != (True,):
                if made is not None:  # left by an attempt that was cut off
                    cursor.execute(f"DROP INDEX {place}.{part}")
                cursor.execute(f"CREATE INDEX CONCURRENTLY {part} ON {table} {definition}")
            cursor.execute(f"ALTER INDEX {index} ATTACH PARTITION {place}.{part}")
