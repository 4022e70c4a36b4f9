"""The writer whose connection, database or process is lost: nothing is lost or doubled with it.

On a real PostgreSQL, in the same process: what is committed is looked at on a connection of its own.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from django.conf import settings as django_settings

from keys.connection import connect
from tests.support.databases import admin_connection
from tests.support.started_writer import (
    admission,
    attempted,
    beaten,
    count,
    database_away,
    later,
    ledger_ids,
    one,
    quiet,
    reap,
    replay,
    settlement,
    terminate,
    writing,
)
from tests.support.started_writer import credential as credential
from usage.arbitration import ArbiterAway
from usage.heartbeat import Watch
from usage.models import Adjustment, Hold, LedgerEntry, Process
from usage.models import Writer as WriterRow
from usage.request_ids import new_id
from usage.writer import Writer

pytestmark = [pytest.mark.either_server, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.mark.long
async def test_a_connection_that_is_killed_again_and_again_loses_and_doubles_nothing(credential):
    async with writing() as writer:
        admitted, refused = [], 0

        async def make_call():
            nonlocal refused
            call = admission(credential)
            try:
                await writer.admit(call)
            except ArbiterAway:
                refused += 1
                return
            admitted.append(call.id)
            await asyncio.sleep(0.005)
            writer.settle(settlement(call))

        async def kill():
            for _ in range(10):
                # Long enough for a few groups, never the same place in one.
                await asyncio.sleep(random.uniform(0.1, 0.3))
                await asyncio.to_thread(terminate)

        killing = asyncio.ensure_future(kill())
        while not killing.done():
            await asyncio.gather(*(make_call() for _ in range(40)))
        await killing
        await quiet(writer)
        assert ledger_ids() == sorted(admitted)
        assert count(Hold) == 0
        assert admitted


async def test_while_the_database_is_unavailable_no_call_is_admitted_and_settlements_wait(credential, monkeypatch):
    async with writing(patience=0.4) as writer:
        call = admission(credential)
        await writer.admit(call)
        async with database_away(monkeypatch):
            writer.settle(settlement(call))
            with pytest.raises(ArbiterAway):
                await writer.admit(admission(credential))
            with pytest.raises(ArbiterAway):
                await writer.admit(admission(credential))
            assert count(LedgerEntry) == 0
        await quiet(writer)
        assert ledger_ids() == [call.id]
        assert await writer.admit(admission(credential)) == "admitted"
        assert count(Hold) == 1


async def test_a_database_that_does_not_answer_is_given_up_in_time(credential):
    async with writing(patience=0.4) as writer:
        with admin_connection() as link:
            link.execute("BEGIN")
            link.execute("SELECT * FROM usage_writer FOR UPDATE")
            began = asyncio.get_running_loop().time()
            # One is under way and the next waits in the queue.
            both = writer.admit(admission(credential)), later(writer, credential)
            answers = await asyncio.gather(*both, return_exceptions=True)
            assert [type(answer) for answer in answers] == [ArbiterAway, ArbiterAway]
            assert asyncio.get_running_loop().time() - began < 25
            link.execute("ROLLBACK")
        await quiet(writer)
        # On a busy machine, the first answers may take longer than the writer's patience.
        async with asyncio.timeout(30):
            while await attempted(writer, credential) != "admitted":
                await asyncio.sleep(0.05)
            while count(Hold) != 1:
                await asyncio.sleep(0.01)


async def test_a_stop_without_a_database_spools_settlements_and_a_replay_writes_them(credential, monkeypatch):
    writer = Writer(queue=4000, patience=3, lease=15, retained=3600)
    await writer.start()
    calls = [admission(credential) for _ in range(3)]
    await asyncio.gather(*map(writer.admit, calls))
    async with database_away(monkeypatch):
        for call in calls:
            writer.settle(settlement(call))
        await writer.stop(0.3)
    assert count(LedgerEntry) == 0
    (file,) = django_settings.SPOOL_DIR.glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
    assert await replay() == {"settled": 3}
    assert ledger_ids() == sorted(call.id for call in calls)
    assert count(Hold) == 0
    assert await replay() == {}
    file.write_bytes(b"\n".join(msgspec.json.encode(settlement(call)) for call in calls))
    assert await replay() == {"repeated": 3}
    assert count(LedgerEntry) == 3


async def test_stopping_writes_what_is_queued_and_leaves(credential):
    async with writing() as writer:
        calls = [admission(credential) for _ in range(300)]
        await asyncio.gather(*map(writer.admit, calls))
        for call in calls:
            writer.settle(settlement(call))
    assert count(LedgerEntry) == 300
    assert count(Process) == 0
    assert count(WriterRow) == 0


async def test_a_process_that_is_taken_for_dead_goes_on_and_its_late_settlement_is_an_adjustment(credential):
    async with beaten() as writer:
        call, other = admission(credential), admission(credential)
        await writer.admit(call)
        await writer.admit(other)
        before = writer.process
        with admin_connection() as link:
            link.execute("UPDATE usage_process SET heartbeat_at = heartbeat_at - interval '1 hour'")
        assert await reap(timedelta(seconds=1)) == 2
        interrupted = await LedgerEntry.objects.aget(pk=call.id)
        assert (interrupted.status, interrupted.estimated) == ("interrupted", True)
        assert interrupted.input_tokens == 100
        assert Decimal(0) < interrupted.cost <= Decimal("0.25")
        writer.settle(settlement(call))
        writer.settle(settlement(call))
        await quiet(writer)
        assert writer.process != before
        adjustment = await Adjustment.objects.aget()
        assert (adjustment.entry_id, adjustment.reason) == (call.id, "late_settlement")
        assert interrupted.cost + adjustment.cost == Decimal("0.002")
        assert interrupted.input_tokens + adjustment.input_tokens == 90
        assert interrupted.output_tokens + adjustment.output_tokens == 10
        assert (await LedgerEntry.objects.aget(pk=call.id)).status == "interrupted"
        assert await writer.admit(admission(credential)) == "admitted"
        assert count(LedgerEntry) == 2


async def test_the_living_are_not_reaped_and_a_heartbeat_keeps_them(credential):
    async with writing(lease=1) as writer:
        await writer.admit(admission(credential))
        await asyncio.sleep(2.2)
        assert await reap(timedelta(seconds=1)) == 0
        assert count(Hold) == 1
        assert count(LedgerEntry) == 0


async def test_none_is_declared_dead_before_all_could_beat(credential, monkeypatch):
    notes: list[float] = []
    long_enough = False
    monkeypatch.setattr(Watch, "note", lambda self, now, clock: notes.append(clock))
    monkeypatch.setattr(Watch, "is_long_enough", lambda self: long_enough)
    async with beaten() as silent, writing(lease=1):
        await silent.admit(admission(credential))
        with admin_connection() as link:
            change = "UPDATE usage_process SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE id = %s"
            link.execute(change, [silent.process])
        begun = len(notes)
        async with asyncio.timeout(60):
            while len(notes) < begun + 3:
                await asyncio.sleep(0.02)
        assert count(LedgerEntry) == 0
        long_enough = True
        async with asyncio.timeout(60):
            while count(LedgerEntry) == 0:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("beats", "reaps"),
    [
        pytest.param([(0, 0), (4, 4), (8, 8), (12, 12)], False, id="not yet for a lease"),
        pytest.param([(0, 0), (4, 4), (8, 8), (12, 12), (16, 16)], True, id="for a lease"),
        pytest.param([(0, 0), (4, 4), (8, 8), (12, 3612), (16, 3616)], False, id="the database's clock was set"),
        pytest.param([(0, 0), (4, 4), (8, 8), (12, -3588), (16, -3584)], False, id="and set back"),
        pytest.param([(0, 0), (4, 4), (14, 14), (16, 16)], False, id="the database stood still"),
        pytest.param([(0, 0), (8, 8), (8, 3608), *((8 + n * 4, 3608 + n * 4) for n in range(5))], True, id="again"),
    ],
)
def test_a_process_declares_others_dead_only_if_it_could_beat_for_a_whole_lease(beats, reaps):
    watch = Watch(15)
    for now, clock in beats:
        watch.note(1000 + now, 5000 + clock)
    assert watch.is_long_enough() is reaps


async def test_a_retained_amount_is_given_back_after_its_time(credential):
    with admin_connection() as link:
        for call, seconds in ((new_id(), 60), (recent := new_id(), 0)):
            link.execute(
                "INSERT INTO usage_retained (id, retained_at, charges)"
                " VALUES (%s, clock_timestamp() - make_interval(secs => %s), '{}')",
                [call, seconds],
            )
        async with writing(lease=0.5, retained=30), asyncio.timeout(20):
            while len(left := link.execute("SELECT id FROM usage_retained").fetchall()) > 1:
                await asyncio.sleep(0.02)
        assert left == [(recent,)]


async def test_nothing_is_reaped_within_a_lease_of_the_databases_start(credential):
    async with beaten() as writer:
        await writer.admit(admission(credential))
        with admin_connection() as link:
            link.execute("UPDATE usage_process SET heartbeat_at = heartbeat_at - interval '2 years'")
        since = one("SELECT clock_timestamp() - pg_postmaster_start_time()")
        assert await reap(since + timedelta(minutes=1)) == 0
        assert count(Hold) == 1
        assert await reap(since - timedelta(milliseconds=1)) == 1


async def test_two_reapers_take_each_hold_once(credential):
    async with beaten() as writer:
        await asyncio.gather(*(writer.admit(admission(credential)) for _ in range(50)))
        with admin_connection() as link:
            link.execute("UPDATE usage_process SET heartbeat_at = heartbeat_at - interval '1 hour'")
        links = [await connect("test") for _ in range(4)]
        try:
            reaped = await asyncio.gather(*(each.execute("SELECT usage_reap('1 s', 100)") for each in links))
            assert sum([total for cursor in reaped for (total,) in await cursor.fetchall()]) == 50
        finally:
            for each in links:
                await each.close()
        assert count(LedgerEntry) == 50
        assert count(Hold) == 0
