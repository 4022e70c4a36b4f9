from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from django.db import connection, connections
from django.db.models import Sum

from keys import connection as keys_connection
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.models import Adjustment, LedgerEntry, Rollup, RollupState

# Not for a server that others use: their open transactions hold roll-ups back, as they should.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


def cells():
    return list(Rollup.objects.order_by("bucket", "virtual_key", "model", "status").values_list("bucket", "calls"))


def total(field="calls"):
    return Rollup.objects.aggregate(total=Sum(field))["total"] or 0


def adjust(entry, **changes):
    Adjustment.objects.create(entry_id=entry, reason="correction", **changes)


def test_it_sums_calls_into_quarters_of_an_hour(cast):
    for minutes in (0, 14, 15, 29, 30):
        make_entry(cast.alice, START + timedelta(minutes=minutes), estimated=minutes == 30)
    assert rollups.roll_up() == 5
    assert cells() == [
        (START, 2),
        (START + timedelta(minutes=15), 2),
        (START + timedelta(minutes=30), 1),
    ]
    assert total("cost") == Decimal("0.003")
    assert total("input_tokens") == 500
    assert total("estimated_calls") == 1


def test_it_keeps_keys_models_and_outcomes_apart(cast):
    make_entry(cast.alice)
    make_entry(cast.alice, provider_key=cast.provider_key)
    make_entry(cast.alice, model="claude-haiku-5-5")
    make_entry(cast.alice, status="failed")
    make_entry(cast.bob)
    make_entry(cast.charlie)
    make_entry(cast.charlie)
    assert rollups.roll_up() == 7
    assert sorted(calls for _, calls in cells()) == [1, 1, 1, 1, 1, 2]


def test_running_it_again_adds_nothing(cast):
    make_entry(cast.alice)
    assert rollups.roll_up() == 1
    assert rollups.roll_up() == 0
    make_entry(cast.alice)
    assert rollups.roll_up() == 1
    assert total() == 2


def test_an_adjustment_goes_to_the_quarter_of_its_call(cast):
    entry = make_entry(cast.alice, START - timedelta(days=3))
    rollups.roll_up()
    adjust(entry, output_tokens=-4, cost=Decimal("-0.0001"))
    assert rollups.roll_up() == 1
    assert cells() == [(START - timedelta(days=3), 1)]
    assert total("output_tokens") == 6
    assert total("cost") == Decimal("0.0005")


def test_a_crash_loses_and_doubles_nothing(cast, monkeypatch):
    make_entry(cast.alice)

    def crash(*args, **kwargs):
        raise RuntimeError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(RollupState, "save", crash)
        with pytest.raises(RuntimeError):
            rollups.roll_up()
    assert total() == 0
    assert rollups.roll_up() == 1
    assert total() == 1


def test_many_rows_are_added_part_by_part(cast, monkeypatch):
    monkeypatch.setattr(rollups, "PART", 3)
    for number in range(10):
        make_entry(cast.alice, START + timedelta(minutes=number))
    assert rollups.roll_up() == 10
    assert total() == 10


def test_a_row_that_is_committed_late_is_not_lost(cast):
    with psycopg.connect(**keys_connection.parameters()) as other:
        make_entry(cast.alice, using=other)
        make_entry(cast.bob)  # a later transaction, committed earlier
        assert rollups.roll_up() == 0
        other.commit()
    assert rollups.roll_up() == 2
    assert total() == 2


def test_parallel_runs_count_every_row_once(cast):
    for number in range(200):
        make_entry(cast.alice, START + timedelta(seconds=number))
    added = []

    def run():
        added.append(rollups.roll_up())
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [0, 0, 0, 200]
    assert total() == 200


def test_a_rebuild_gives_what_there_was(cast):
    entry = make_entry(cast.alice)
    make_entry(cast.bob)
    adjust(entry, cost=Decimal(1))
    rollups.roll_up()
    before = cells(), total("cost")
    Rollup.objects.filter(virtual_key=cast.bob).update(calls=99)
    assert rollups.rebuild() == 3
    assert (cells(), total("cost")) == before


def test_it_agrees_with_the_ledger_and_its_adjustments(cast):
    for number in range(50):
        entry = make_entry(cast.alice, START + timedelta(minutes=7 * number), cost=Decimal(number) / 7)
        if number % 5 == 0:
            adjust(entry, cost=Decimal(-number) / 70)
        if number % 9 == 0:
            rollups.roll_up()
    rollups.roll_up()
    ledger = LedgerEntry.objects.aggregate(total=Sum("cost"))["total"]
    assert total("cost") == ledger + Adjustment.objects.aggregate(total=Sum("cost"))["total"]


def test_it_freshens_only_what_is_old(cast):
    make_entry(cast.alice)
    assert rollups.freshen() is not None
    assert total() == 1
    make_entry(cast.alice)
    rollups.freshen()
    assert total() == 1
    rollups.freshen(timedelta(0))
    assert total() == 2


def test_the_first_calls_are_rolled_up_at_once(cast):
    assert rollups.freshen() is not None
    make_entry(cast.alice)
    rollups.freshen()
    assert total() == 1


def test_it_does_not_wait_for_a_run_that_is_under_way(cast):
    make_entry(cast.alice)
    with psycopg.connect(**keys_connection.parameters()) as other:
        other.execute("SELECT FROM usage_rollupstate FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 100")
        assert rollups.freshen() is None
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert total() == 0
