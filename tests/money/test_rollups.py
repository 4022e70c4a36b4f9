from __future__ import annotations

import io
import threading
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models import F, Sum

from keys import connection as keys_connection
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import moments, rollups, tasks
from usage.alert_words import described, in_words
from usage.models import Adjustment, Alert, DayTotal, LedgerEntry, OwnerDay, QuarterTotal, Rollup, RollupState

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


def stored():
    """All roll-ups, whatever their ids are."""
    with connection.cursor() as cursor:
        found = []
        for table in rollups.TABLES:
            cursor.execute(f"SELECT {table.columns} FROM {table.table}")
            found.append(sorted(map(str, cursor.fetchall())))
    return found


def over_three_days(cast):
    """Calls of three days, an adjustment of the first, all rolled up."""
    entries = [make_entry(cast.alice, START + timedelta(days=n)) for n in range(3)]
    make_entry(cast.bob)
    adjust(entries[0], cost=Decimal(1))
    rollups.roll_up()
    return stored()


def wrong_cost(cast):
    Rollup.objects.filter(virtual_key=cast.bob).update(cost=F("cost") + Decimal("0.000000000001"))


def lost_cell(cast):
    Rollup.objects.filter(virtual_key=cast.bob).delete()


def made_up_cell(cast):
    row = Rollup.objects.filter(virtual_key=cast.bob).get()
    row.pk, row.model = None, "made-up"
    row.save()


def wrong_split(cast):
    Rollup.objects.filter(virtual_key=cast.bob).update(cost_split=[Decimal(1)] * 7)


def wrong_histogram(cast):
    Rollup.objects.filter(virtual_key=cast.bob).update(durations=[7] * 25)


def wrong_fault(cast):
    Rollup.objects.filter(virtual_key=cast.bob).update(caller_errors=1)


def wrong_level(level):
    def harm(cast):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE usage_levelsum SET timed_calls = timed_calls + 1 WHERE level = %s AND bucket <= %s"
                " AND bucket + '1 month' > %s AND (virtual_key_id = %s OR virtual_key_id IS NULL)",
                [level, START, START, cast.bob.pk],
            )
            assert cursor.rowcount

    harm.__name__ = f"wrong_{level}"
    return harm


def lost_day(cast):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_levelsum WHERE level = 'key_day' AND bucket <= %s", [START])


def wrong_owner(cast):
    OwnerDay.objects.filter(owner=cast.bob.pk * 4 + 2).update(calls=99)


def wrong_quarter(cast):
    QuarterTotal.objects.filter(bucket__date=START.date()).delete()


def wrong_day(cast):
    DayTotal.objects.filter(bucket__date=START.date()).update(output_tokens=F("output_tokens") + 1)


LEVELS_OF_THREE_DAYS = (
    *("group_hour", "total_quarter", "model_hour", "key_day", "group_day", "owner_day"),
    *("caller_month", "model_month", "total_month"),
)
FURTHER = (wrong_owner, wrong_quarter, wrong_day, lost_day, *map(wrong_level, LEVELS_OF_THREE_DAYS))
ROLLED_UP = (wrong_split, wrong_histogram, wrong_fault)
WRONG = [wrong_cost, lost_cell, made_up_cell, *ROLLED_UP, *FURTHER]


def wrong_days():
    """The days that a rebuild mends, up to well after the calls here: each day up to today takes a while."""
    days = rollups.rebuild(until=START.date() + timedelta(days=5))
    return [day for day, found in days if found]


@pytest.mark.parametrize("harm", WRONG)
def test_a_rebuild_mends_the_day_that_is_wrong_and_leaves_the_others(cast, harm):
    before = over_three_days(cast)
    untouched = list(Rollup.objects.exclude(bucket__date=START.date()).order_by("pk").values_list("pk"))
    harm(cast)
    days = dict(rollups.rebuild(until=START.date() + timedelta(days=2)))
    # A month that is wrong is found on its last day.
    last = START.date() + timedelta(days=2 if harm.__name__.endswith("month") else 0)
    assert [day for day, found in days.items() if found] == [last]
    assert len(days) == 3
    assert stored() == before
    assert list(Rollup.objects.exclude(bucket__date=START.date()).order_by("pk").values_list("pk")) == untouched
    assert not wrong_days()


def as_an_earlier_version():
    """Make the roll-ups what they were before there were more dimensions and levels."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_levelsum, usage_summedperiod")
        cursor.execute(
            "UPDATE usage_rollup SET provider = '', service_tier = '', timed_calls = 0, duration_ms = 0,"
            " first_byte_ms = 0, durations = NULL, first_bytes = NULL"
        )
    RollupState.objects.update(whole_since=START.replace(hour=0) + timedelta(days=3))


def test_roll_ups_of_an_earlier_version_are_summed_again_the_latest_day_first(cast):
    before = over_three_days(cast)
    as_an_earlier_version()
    assert not rollups.complete()
    assert RollupState.objects.get().whole_since == START.replace(hour=0) + timedelta(days=2)
    assert set(Rollup.objects.filter(provider="anthropic").values_list("bucket")) == {(START + timedelta(days=2),)}
    assert not rollups.complete(seconds=0)
    make_entry(cast.bob, START)  # comes late, before its day is summed again
    rollups.roll_up()
    assert rollups.complete(seconds=60)
    assert RollupState.objects.get().whole_since is None
    assert rollups.complete()
    assert total() == 5
    assert len(stored()[0]) == len(before[0])
    assert not wrong_days()
    assert rollups.check(START) is None


def test_a_crash_while_a_day_is_summed_again_leaves_it_as_it_was(cast, monkeypatch):
    over_three_days(cast)
    as_an_earlier_version()
    before = stored()

    def crash(*args):
        raise RuntimeError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(rollups, "forget_months", crash)
        with pytest.raises(RuntimeError):
            rollups.complete()
    assert stored() == before
    assert rollups.complete(seconds=60)
    assert not wrong_days()


def test_hours_that_are_not_summed_again_yet_are_not_checked(cast):
    over_three_days(cast)
    RollupState.objects.update(whole_since=START.replace(hour=0) + timedelta(days=2))
    found = {rollups.random_hour() or START for _ in range(50)}
    assert min(found) == START.replace(hour=0) + timedelta(days=2)
    RollupState.objects.update(whole_since=START + timedelta(days=9))
    assert rollups.random_hour() is None


def test_a_month_is_not_summed_before_a_day_that_came_meanwhile(cast, monkeypatch):
    make_entry(cast.alice, START)
    rollups._add_waiting()
    fold = rollups._fold

    def late(level, start):
        if level.name == "caller_month":
            make_entry(cast.bob, START - timedelta(days=1))
            rollups._add_waiting()
        return fold(level, start)

    with monkeypatch.context() as patch:
        patch.setattr(rollups, "_fold", late)
        rollups.fold()
    rollups.fold()
    assert not wrong_days()


def test_many_adjustments_are_added_part_by_part(cast, monkeypatch):
    entry = make_entry(cast.alice)
    rollups.roll_up()
    parts, roll_up_part = [], rollups._roll_up_part

    def noted():
        parts.append(roll_up_part())
        return parts[-1]

    monkeypatch.setattr(rollups, "PART", 3)
    monkeypatch.setattr(rollups, "_roll_up_part", noted)
    for _ in range(8):
        adjust(entry, cost=Decimal("0.001"))
    assert rollups.roll_up() == 8
    assert [added for added, _ in parts] == [3, 3, 2]


def test_a_rebuild_counts_nothing_that_is_still_to_be_rolled_up(cast):
    before = over_three_days(cast)
    make_entry(cast.bob, START + timedelta(days=1))
    assert not wrong_days()
    assert stored() == before
    assert rollups.roll_up() == 1
    assert total() == 5
    assert not wrong_days()


def test_a_rebuild_beside_calls_and_roll_ups_ends_with_what_the_ledger_says(cast):
    before = over_three_days(cast)[0]
    lost_cell(cast)

    def run(work):
        work()
        connections.close_all()

    def more():
        for number in range(30):
            make_entry(cast.alice, START + timedelta(minutes=40 * number))
            rollups.roll_up()

    threads = [threading.Thread(target=run, args=[work]) for work in (more, wrong_days)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rollups.roll_up()
    assert total() == len(before) + 30
    assert not wrong_days()


def test_a_rebuild_of_an_empty_deployment_has_nothing_to_do(cast):
    assert list(rollups.rebuild()) == []
    assert rollups.check_random_hour() is None


@pytest.mark.parametrize("harm", WRONG)
def test_an_hour_that_differs_from_the_ledger_raises_one_alert_with_both_sums(cast, harm, monkeypatch, caplog):
    over_three_days(cast)
    monkeypatch.setattr(rollups, "random_hour", lambda: START)
    tasks.check_rollups()
    assert not Alert.objects.exists()
    harm(cast)
    tasks.check_rollups()
    tasks.check_rollups()
    alert = Alert.objects.get()
    assert (alert.about, alert.start) == ("miscounted", START)
    assert alert.spent == LedgerEntry.objects.filter(admitted_at__lt=START + timedelta(hours=1)).aggregate(
        cost=Sum("cost")
    )["cost"] + Decimal(1)
    said, (subject, lines) = described(alert), in_words(alert)
    assert (said["type"], said["hour"]) == ("rollups.differ", moments.show(START))
    assert said["ledger_cost"] != said["reported_cost"] or harm in (*FURTHER, *ROLLED_UP)
    assert f"{START:%Y}" in subject
    assert any(f"rebuild_rollups --since {START:%Y-%m-%d}" in line for line in lines)
    assert f"rebuild_rollups --since {START:%Y-%m-%d}" in caplog.text


def test_any_hour_between_the_first_and_the_last_call_may_be_checked(cast):
    make_entry(cast.alice, START + timedelta(minutes=50))
    make_entry(cast.alice, START + timedelta(hours=2))
    rollups.roll_up()
    assert {rollups.random_hour() for _ in range(200)} == {START + timedelta(hours=n) for n in range(3)}


def test_the_command_says_which_days_it_has_mended(cast):
    over_three_days(cast)
    wrong_cost(cast)
    output, errors = io.StringIO(), io.StringIO()
    last = START.date() + timedelta(days=2)
    call_command("rebuild_rollups", until=last, stdout=output, stderr=errors)
    assert output.getvalue() == "Compared 3 days with the ledger; summed 1 again.\n"
    assert f"{START.date()}: summed again (2 rows differed)" in errors.getvalue()
    assert f"{last}: right" in errors.getvalue()


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--since", "2026-02-02", "--until", "2026-02-01"]])
def test_the_command_refuses_days_that_are_none(cast, arguments):
    with pytest.raises(CommandError) as refused:
        call_command("rebuild_rollups", *arguments)
    assert refused.value.returncode == 2


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
