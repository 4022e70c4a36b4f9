"""The writer: admissions and settlements in groups, whatever happens to waiters, members and connections.

On a real PostgreSQL, in the same process: what is committed is looked at on a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta
from decimal import Decimal

import msgspec
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings

from keys.connection import connect
from keys.models import Credential
from tests.databases import admin_connection, throw_out
from tests.gateway import issue
from usage import ledger, spool
from usage.arbitration import Admission, ArbiterAway, Overloaded, Settlement, Verdict, clean
from usage.models import Adjustment, Hold, LedgerEntry, Process
from usage.models import Writer as WriterRow
from usage.request_ids import new_id
from usage.writer import Writer

pytestmark = [pytest.mark.either_server, pytest.mark.filterwarnings("ignore::ResourceWarning")]


reap = sync_to_async(ledger.reap)
replay = sync_to_async(spool.replay)


@pytest.fixture
def credential(apart, tmp_path, settings):
    """Alice's credential; the spool is empty."""
    settings.SPOOL_DIR = tmp_path / "spool"
    return Credential.objects.select_related("virtual_key").get(virtual_key=issue(None).virtual_key)


def admission(credential, **changes):
    key = credential.virtual_key
    known = {
        "id": new_id(),
        "credential": credential.pk,
        "revision": key.revision,
        "catalogue_revision": one("SELECT catalogue_revision FROM keys_gateway"),
        "hold": True,
        "endpoint": "messages",
        "requested_model": "claude-opus-5-5",
        "stream": False,
        "provider": "echo",
        "provider_key": None,
        "ceiling": Decimal("0.25"),
        "input_tokens": 100,
        "input_cost": Decimal("0.01"),
        "max_tokens": 1000,
        "output_price": Decimal(20),
        "price_version": "test",
        "client_labels": {},
    }
    return Admission(**(known | changes))


def one(query, *values):
    """The only value of a query."""
    with admin_connection() as link:
        found = link.execute(query, values).fetchone()
    assert found is not None
    return found[0]


def settlement(call, **changes):
    known = {
        "id": call.id,
        "model": call.requested_model,
        "provider": "echo",
        "provider_key_id": None,
        "provider_request_id": "req_1",
        "status": "completed",
        "http_status": 200,
        "error_type": "",
        "stop_reason": "end_turn",
        "input_tokens": 90,
        "output_tokens": 10,
        "thinking_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation_5m_input_tokens": 0,
        "cache_creation_1h_input_tokens": 0,
        "web_search_requests": 0,
        "iterations": [],
        "service_tier": "",
        "speed": "",
        "inference_geo": "",
        "cost": Decimal("0.002"),
        "currency": "USD",
        "price_version": "test",
        "price_flag": "",
        "estimated": False,
        "time_to_first_byte_ms": 5,
        "duration_ms": 20,
        "attempts": [],
    }
    return Settlement(**(known | changes))


@contextlib.asynccontextmanager
async def writing(**options):
    writer = Writer(**({"queue": 4000, "patience": 3, "lease": 15, "retained": 3600} | options))
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop(2)


@contextlib.asynccontextmanager
async def beaten():
    """A writer whose heartbeat has just been, and won't be again for minutes: what a test makes of it stays."""
    async with writing(lease=600) as writer:
        await asyncio.sleep(0.4)
        yield writer


async def quiet(writer):
    """Everything that was queued is written."""
    async with asyncio.timeout(10):
        while writer.settlements or writer.releases or writer.admissions or not writer.idle.is_set():
            await asyncio.sleep(0.005)


def ledger_ids():
    with admin_connection() as link:
        return [row[0] for row in link.execute("SELECT id FROM usage_ledgerentry ORDER BY id")]


def count(model):
    return one(f"SELECT count(*) FROM {model._meta.db_table}")


def groups(writer):
    return one("SELECT groups FROM usage_writer WHERE process = %s", writer.process)


def terminate(name="gateway writer"):
    with admin_connection() as link:
        throw_out(link, "application_name = %s AND datname = current_database()", name)


@contextlib.asynccontextmanager
async def database_away(monkeypatch):
    """No new connection can be made, and the open one is gone."""

    async def refuse(application):
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr("usage.writer.connect", refuse)
        terminate()
        yield


async def test_an_admitted_call_has_a_committed_hold_and_settling_makes_it_a_row(credential):
    async with writing() as writer:
        call = admission(credential, client_labels={"claude_code_session": "7"})
        assert await writer.admit(call) == "admitted"
        assert count(Hold) == 1
        assert count(LedgerEntry) == 0
        writer.settle(settlement(call))
        await quiet(writer)
    assert count(Hold) == 0
    entry = await LedgerEntry.objects.aget()
    assert entry.id == call.id
    assert entry.virtual_key_id == credential.virtual_key.id
    assert entry.customer_id == credential.virtual_key.customer_id
    assert (entry.cost, entry.held) == (Decimal("0.002"), Decimal("0.25"))
    assert entry.client_labels == {"claude_code_session": "7"}
    assert (entry.ended_at - entry.admitted_at) == timedelta(milliseconds=20)


async def test_a_call_that_is_only_asked_about_leaves_no_hold(credential):
    async with writing() as writer:
        assert await writer.admit(admission(credential, hold=False)) == "admitted"
    assert count(Hold) == 0


async def test_many_at_once_share_a_few_transactions(credential):
    async with writing() as writer:
        calls = [admission(credential) for _ in range(600)]
        before = groups(writer)
        assert set(await asyncio.gather(*map(writer.admit, calls))) == {"admitted"}
        for call in calls:
            writer.settle(settlement(call))
        await quiet(writer)
        assert groups(writer) - before <= 8
    assert ledger_ids() == sorted(call.id for call in calls)


async def test_each_of_a_group_gets_its_own_answer(credential):
    async with writing() as writer:
        never_handed_out = admission(credential)
        never_handed_out.credential += 999
        verdicts: list[str] = await asyncio.gather(
            writer.admit(admission(credential)),
            writer.admit(never_handed_out),
            writer.admit(admission(credential, revision=credential.virtual_key.revision + 7)),
            writer.admit(admission(credential)),
        )
        assert verdicts == ["admitted", "unknown", "stale", "admitted"]
        assert count(Hold) == 2


async def test_who_hangs_up_between_queueing_and_answer_leaves_no_hold(credential):
    async with writing() as writer:
        taken = 0
        for turns in range(6):
            tasks = [asyncio.ensure_future(writer.admit(admission(credential))) for _ in range(100)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005 * turns)
            for task in tasks:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            taken += answers.count("admitted")
        await quiet(writer)
        async with asyncio.timeout(5):
            while count(Hold) != taken:
                await asyncio.sleep(0.01)
                await quiet(writer)


async def test_who_hangs_up_just_when_the_answer_came_leaves_no_hold(credential, monkeypatch):
    async with writing() as writer:
        tell = writer._tell

        def tell_and_cancel(group, verdicts):
            tell(group, verdicts)
            task.cancel()

        monkeypatch.setattr(writer, "_tell", tell_and_cancel)
        task = asyncio.ensure_future(writer.admit(admission(credential)))
        with pytest.raises(asyncio.CancelledError):
            await task
        await quiet(writer)
        assert count(Hold) == 0


async def test_a_settlement_that_cannot_be_written_does_not_sink_its_group(credential):
    async with writing() as writer:
        calls = [admission(credential) for _ in range(40)]
        await asyncio.gather(*map(writer.admit, calls))
        poison: dict[int, dict[str, object]] = {
            3: {"cost": Decimal(10) ** 25},
            17: {"stop_reason": "a\x00b"},
            18: {"input_tokens": 1 << 70},
            39: {"http_status": 70_000},
        }
        for number, call in enumerate(calls):
            writer.settle(settlement(call, **poison.get(number, {})))
        await quiet(writer)
        written = sorted([entry.id async for entry in LedgerEntry.objects.filter(status="completed")])
        assert written == sorted(call.id for number, call in enumerate(calls) if number not in poison)
        assert await writer.admit(admission(credential)) == "admitted"
    letters = (django_settings.SPOOL_DIR / spool.DEAD_LETTERS).read_text().splitlines()
    buried = [call.id for call in calls if any(str(call.id) in letter for letter in letters)]
    assert buried == [calls[number].id for number in sorted(poison)]
    assert len(letters) == len(poison)


async def test_an_admission_that_cannot_be_written_does_not_sink_its_group(credential):
    async with writing() as writer:
        answers = await asyncio.gather(
            writer.admit(admission(credential)),
            writer.admit(admission(credential, requested_model="a\x00b")),
            writer.admit(admission(credential, ceiling=Decimal(10) ** 25)),
            writer.admit(admission(credential)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Verdict, ArbiterAway, ArbiterAway, Verdict]
        assert count(Hold) == 2


def test_strings_from_outside_are_cleaned_and_capped():
    assert clean("a\x00b\ud800") == "a\ufffdb?"
    assert len(clean("x" * 1000)) == 200


async def test_settling_twice_changes_nothing(credential):
    async with writing() as writer:
        call = admission(credential)
        await writer.admit(call)
        writer.settle(settlement(call))
        await quiet(writer)
        writer.settle(settlement(call, cost=Decimal(9)))
        writer.settle(settlement(call, cost=Decimal(8)))
        await quiet(writer)
    assert (await LedgerEntry.objects.aget()).cost == Decimal("0.002")
    assert count(Adjustment) == 0


async def test_a_settlement_of_an_unknown_call_is_kept_as_a_dead_letter(credential):
    async with writing() as writer:
        call = admission(credential)
        writer.settle(settlement(call))
        await quiet(writer)
    assert count(LedgerEntry) == 0
    assert str(call.id) in (django_settings.SPOOL_DIR / spool.DEAD_LETTERS).read_text()


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


async def test_while_the_database_is_away_nobody_is_admitted_and_settlements_wait(credential, monkeypatch):
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


async def attempted(writer, credential):
    with contextlib.suppress(ArbiterAway):
        return await writer.admit(admission(credential))


async def later(writer, credential):
    await asyncio.sleep(0.1)
    await writer.admit(admission(credential))


async def test_stopping_while_the_database_is_away_spools_and_replaying_brings_it_in(credential, monkeypatch):
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


async def test_what_was_retained_for_long_enough_is_given_back(credential):
    with admin_connection() as link:
        for call, seconds in ((new_id(), 60), (recent := new_id(), 0)):
            link.execute(
                "INSERT INTO usage_retained (id, retained_at, charges)"
                " VALUES (%s, clock_timestamp() - make_interval(secs => %s), '{}')",
                [call, seconds],
            )
        async with writing(lease=0.5, retained=30), asyncio.timeout(5):
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


async def test_beyond_the_queue_calls_are_refused_as_overload(credential):
    async with writing(queue=10) as writer:
        answers = await asyncio.gather(
            *(writer.admit(admission(credential)) for _ in range(30)), return_exceptions=True
        )
        assert answers.count("admitted") == 10
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 20


async def test_of_two_writers_neither_disturbs_the_other(credential):
    async with writing() as first, writing() as second:
        calls = [admission(credential) for _ in range(200)]
        writers = [first, second] * 100
        verdicts = await asyncio.gather(*(w.admit(call) for w, call in zip(writers, calls, strict=True)))
        assert set(verdicts) == {"admitted"}
        for writer, call in zip(writers, calls, strict=True):
            writer.settle(settlement(call))
        await quiet(first)
        await quiet(second)
    assert ledger_ids() == sorted(call.id for call in calls)
