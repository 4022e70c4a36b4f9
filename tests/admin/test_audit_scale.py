"""The audit log costs a statement as much for each of its rows, however many rows it has."""

from __future__ import annotations

import pytest

from tests.support.audit_log import sql

pytestmark = [pytest.mark.django_db, pytest.mark.either_server]

FEW, MANY = 50, 400
ADD = """
INSERT INTO keys_virtualkey (id, name, customer_id, owner, active, allowed_models, denied_models, labels, passthrough,
    revision, created_at)
SELECT %s + n, 'key ' || n, 1, 'owner ' || n, true, '{}', '{}', '{}', false, 1, now() FROM generate_series(1, %s) n
"""
CHANGE = "UPDATE keys_virtualkey SET name = 'new ' || name, max_tokens = 5 WHERE id BETWEEN %s + 1 AND %s"
DELETE = "DELETE FROM keys_virtualkey WHERE id BETWEEN %s + 1 AND %s"
READ = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int FROM pg_stat_xact_user_tables"


def rows_read(statement: str, *values: int) -> int:
    """Rows that the statement, its triggers and its constraints read."""
    before = sql(READ)[0][0]
    sql(statement, *values)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("SET CONSTRAINTS ALL DEFERRED")
    return int(sql(READ)[0][0] - before)


def cost(first: int, rows: int) -> list[int]:
    """Rows read when that many keys are added, changed and deleted, in a statement each."""
    return [
        rows_read(ADD, first, rows),
        rows_read(CHANGE, first, first + rows),
        rows_read(DELETE, first, first + rows),
    ]


def test_eight_times_the_keys_in_a_statement_read_eight_times_the_rows():
    sql("INSERT INTO keys_customer (id, name, paused, created_at) VALUES (1, 'Acme', false, now())")
    # As after an autovacuum of a new deployment: with the statistics of empty tables.
    sql("ANALYZE")
    few, many = cost(1_000, FEW), cost(10_000, MANY)
    print(f"rows read by adding, changing and deleting: {few} for {FEW} keys, {many} for {MANY}")
    for small, large in zip(few, many, strict=True):
        assert large <= small * (MANY // FEW) * 2 + MANY


def test_names_are_looked_up_by_their_index():
    sql("INSERT INTO keys_customer (id, name, paused, created_at) VALUES (1, 'Acme', false, now())")
    sql("ANALYZE keys_auditname")
    scanned = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'keys_auditname'"
    before = sql(scanned)
    cost(1_000, FEW)
    assert sql(scanned) == before
