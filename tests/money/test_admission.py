"""The writer: admissions and settlements in groups, with cancelled waiters and bad members."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings as django_settings

from tests.support.started_writer import admission, count, groups, ledger_ids, quiet, settlement, writing
from tests.support.started_writer import credential as credential
from usage import spool
from usage.arbitration import ArbiterAway, Overloaded, Verdict, clean
from usage.models import Adjustment, Hold, LedgerEntry

pytestmark = [pytest.mark.either_server, pytest.mark.filterwarnings("ignore::ResourceWarning")]


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


async def test_a_client_that_disconnects_between_queueing_and_answer_leaves_no_hold(credential):
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
        async with asyncio.timeout(30):
            while count(Hold) != taken:
                await asyncio.sleep(0.01)
                await quiet(writer)


async def test_a_client_that_disconnects_just_when_the_answer_came_leaves_no_hold(credential, monkeypatch):
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


async def test_beyond_the_queue_calls_are_refused_as_overload(credential):
    async with writing(queue=10) as writer:
        answers = await asyncio.gather(
            *(writer.admit(admission(credential)) for _ in range(30)), return_exceptions=True
        )
        assert answers.count("admitted") == 10
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 20


async def test_two_writers_do_not_disturb_each_other(credential):
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
