"""An admission costs the same with a hundred thousand keys of three budgets each as with ten."""

from __future__ import annotations

import msgspec
import psycopg
import pytest

from keys.connection import OPTIONS, parameters
from keys.models import VirtualKey
from tests.support.asked_arbiter import Arbiter, arbiter
from tests.support.gateway import new_database, using

pytestmark = [pytest.mark.slow, pytest.mark.either_server]

MAKE = """
INSERT INTO keys_customer (id, name, paused, created_at) SELECT 1, 'Acme', false, now() WHERE %(first)s = 1;
INSERT INTO keys_virtualkey (id, name, customer_id, owner, active, allowed_models, denied_models, labels, passthrough,
    revision, created_at)
SELECT n, 'key ' || n, 1, '', true, '{}', '{}', '{}', false, 1, now() FROM generate_series(%(first)s, %(last)s) n;
INSERT INTO keys_credential (kind, name, virtual_key_id, digest, pepper, first, last, created_at)
SELECT 'virtual_key', 'key ' || n, n, decode(md5(n::text), 'hex'), '0', '', '', now()
FROM generate_series(%(first)s, %(last)s) n;
INSERT INTO usage_budget (virtual_key_id, model_patterns, active, unit, amount, period, rolling, enforcement,
    thresholds)
SELECT n, '{}', true, 'usd', 1000, period, false, 'hard', '{50,80,100}'
FROM generate_series(%(first)s, %(last)s) n, unnest(ARRAY['day', 'month', 'year']) period;
"""
TOUCHED = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables
WHERE relname ~ '^(keys|usage)_'
"""


def make(first, last):
    """Keys of these numbers, with three budgets each."""
    with psycopg.connect(**parameters(), autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
        link.execute(MAKE, {"first": first, "last": last})


def cost_of_an_admission(asked: Arbiter, key: VirtualKey) -> tuple[int, int]:
    """Rows touched, and buffers hit or read, by the admission of a call whose windows are there."""
    asked.link.execute("ANALYZE")
    for _ in range(3):
        assert asked.admit(key)[1] == "admitted"
    values = [asked.process, asked.fence, msgspec.json.encode([asked.ask(key)]).decode()]
    # What the session has not reported yet counts as this transaction's.
    asked.link.execute("SELECT pg_stat_force_next_flush()")
    asked.link.execute("BEGIN")
    (plan,) = asked.link.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM usage_group(%s, %s, NULL, NULL, %s::jsonb)", values
    ).fetchone() or ([],)
    (rows,) = asked.link.execute(TOUCHED).fetchone() or (0,)
    asked.link.execute("ROLLBACK")
    (planned,) = plan
    return int(rows), planned["Plan"]["Shared Hit Blocks"] + planned["Plan"]["Shared Read Blocks"]


def test_an_admission_touches_as_many_rows_and_buffers_with_a_hundred_thousand_keys(django_db_blocker):
    with django_db_blocker.unblock(), new_database("crowded") as name, using(name):
        make(1, 10)
        with psycopg.connect(**parameters(OPTIONS), autocommit=True) as link, arbiter():
            asked = Arbiter(link)
            asked.start()
            key = VirtualKey.objects.get(pk=7)
            few = cost_of_an_admission(asked, key)
            make(11, 100_000)
            many = cost_of_an_admission(asked, key)
        print(f"rows and buffers: {few} with 10 keys, {many} with 100,000")
        assert many[0] <= few[0]
        # Nothing but the upper levels of the indexes, which are two higher.
        assert many[1] <= few[1] + 40
