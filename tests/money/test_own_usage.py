"""How the usage of one key is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from keys.connection import BlockingReader, run_blocking
from keys.models import Customer, Team, VirtualKey
from usage import own_usage
from usage.models import RollupState


def nodes(plan):
    """All nodes of a plan."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def reads_rollups(node):
    return node.get("Relation Name") == "usage_rollup"


@pytest.mark.django_db
def test_among_many_keys_it_reads_by_index_only_its_own_rows():
    customer = Customer.objects.create(name="Many")
    team = Team.objects.create(customer=customer, name="Many")
    key = VirtualKey.objects.create(name="one", customer=customer, team=team)
    until = datetime(2026, 11, 20, tzinfo=UTC)
    RollupState.objects.update_or_create(id=1, defaults={"xid": "0"})
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO usage_rollup (bucket, customer_id, team_id, virtual_key_id, model, status, calls,
                estimated_calls, input_tokens, output_tokens, thinking_tokens, cache_read_input_tokens,
                cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests, cost)
            SELECT bucket, %s, %s, %s + number, 'claude', 'completed', 1, 0, 0, 0, 0, 0, 0, 0, 0, 1
            FROM generate_series(%s::timestamptz - interval '10 days', %s::timestamptz, '15 minutes') AS bucket,
                generate_series(0, 99) AS number""",
            [customer.pk, team.pk, key.pk, until, until],
        )
        cursor.execute("ANALYZE usage_rollup")
        cursor.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + own_usage.BY_DAY,
            {"virtual_key": key.pk, "start": until - timedelta(days=10), "until": until},
        )
        plan = cursor.fetchone()[0][0]
    read = own_usage.between(BlockingReader().fetch, key.pk, until - timedelta(days=10), until)
    found, _ = run_blocking(read)
    assert [line.calls for line in found] == [96] * 10
    assert "usage_rollup_cell" in str(plan)
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes(plan["Plan"]) if reads_rollups(node))
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 20_000
