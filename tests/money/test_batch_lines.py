"""Calls whose costs come line by line: their hold has no process, each line becomes a row, once."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from tests.support.ledger_rows import empty_ledger, make_cast
from usage import ledger
from usage.arbitration import Settlement
from usage.models import Hold, LedgerEntry
from usage.request_ids import new_id

pytestmark = pytest.mark.django_db(transaction=True)

SETTLEMENT = msgspec.to_builtins(
    Settlement(
        id=UUID(int=0),
        model="claude-opus-5-5",
        provider="anthropic",
        provider_key_id=1,
        provider_request_id="req_1",
        status="completed",
        http_status=200,
        price_version="test",
        duration_ms=1500,
    )
)


@pytest.fixture
def hold():
    empty_ledger()
    cast = make_cast()
    return Hold.objects.create(
        id=new_id(),
        expires_at=timezone.now() + timedelta(days=30),
        admitted_at=timezone.now(),
        credential=7,
        virtual_key=cast.alice,
        team=cast.alice.team,
        customer=cast.alice.customer,
        labels={"cost_centre": "4711"},
        client_labels={"request_id": "mine"},
        endpoint="batches.create",
        requested_model="claude-opus-5-5",
        stream=False,
        provider="anthropic",
        provider_key=1,
        ceiling=Decimal(10),
        input_tokens=1000,
        input_cost=Decimal("0.5"),
        max_tokens=100,
        output_price=Decimal(20),
        price_version="test",
    )


def sql(query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()[0]


def open_call(hold):
    return sql("SELECT usage_open(%s::jsonb)", json.dumps(SETTLEMENT | {"id": str(hold.id)}))


def line(part, cost):
    ended = timezone.now().isoformat()
    return SETTLEMENT | {
        "part": part,
        "cost": str(cost),
        "output_tokens": 5,
        "ended_at": ended,
        "client_labels": {"custom_id": part},
    }


def settle(hold, *lines, last=False):
    return sql("SELECT usage_settle_parts(%s, %s::jsonb, %s)", hold.id, json.dumps(lines), last)


def test_the_call_that_opens_it_has_a_row_and_its_hold_stays(hold):
    assert open_call(hold) is True
    row = LedgerEntry.objects.get()
    assert (row.id, row.virtual_key_id) == (hold.id, hold.virtual_key_id)
    assert [row.cost, row.held] == [0, 10]
    assert row.ended_at == row.admitted_at + timedelta(milliseconds=1500)
    assert Hold.objects.get().ceiling == 10


def test_a_line_becomes_a_row_of_who_called_and_the_hold_shrinks_by_its_cost(hold):
    open_call(hold)
    assert settle(hold, line("a", "1.25"), line("b", 0)) == 2
    row = LedgerEntry.objects.get(cost__gt=0)
    assert (row.team_id, row.customer_id, row.labels) == (hold.team_id, hold.customer_id, hold.labels)
    assert row.client_labels == {"request_id": "mine", "custom_id": "a"}
    assert (row.cost, row.output_tokens, row.admitted_at) == (Decimal("1.25"), 5, hold.admitted_at)
    assert str(row.id)[:13] == str(hold.id)[:13]
    assert Hold.objects.get().ceiling == Decimal("8.75")


def test_settling_a_line_again_changes_nothing(hold):
    open_call(hold)
    settle(hold, line("a", 1))
    assert settle(hold, line("a", 1), line("b", 2)) == 1
    assert Hold.objects.get().ceiling == 7
    assert LedgerEntry.objects.count() == 3


def test_the_last_line_gives_the_rest_back(hold):
    open_call(hold)
    settle(hold, line("a", 1), last=True)
    assert not Hold.objects.exists()
    assert settle(hold, line("b", 1)) == 0
    assert LedgerEntry.objects.count() == 2


def test_a_hold_whose_date_has_passed_costs_what_was_still_held(hold):
    open_call(hold)
    settle(hold, line("a", 4))
    Hold.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert ledger.expire() == 1
    assert ledger.expire() == 0
    row = LedgerEntry.objects.get(status="interrupted")
    assert (row.cost, row.estimated, row.model) == (Decimal(6), True, "claude-opus-5-5")
    assert not Hold.objects.exists()


def test_a_hold_without_a_process_is_not_reaped(hold):
    ledger.reap(timedelta(0))
    assert Hold.objects.exists()
