"""The spool: with any contents, good settlements are written, bad ones put aside, and the gateway starts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from keys.models import Credential
from tests.support.fake_provider import whole
from tests.support.gateway import Web, issue, message, post, wait_until
from tests.support.started_writer import admission, beaten, count, database_away, ledger_ids, quiet, settlement, writing
from usage import spool
from usage.arbitration import Settlement
from usage.models import Adjustment, Hold, LedgerEntry
from usage.writer import Writer

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

replay = sync_to_async(spool.replay)


@pytest.fixture
def credential(apart, tmp_path, settings):
    """Alice's credential; the spool is empty."""
    settings.SPOOL_DIR = tmp_path / "spool"
    return Credential.objects.select_related("virtual_key").get(virtual_key=issue(None).virtual_key)


def line(settlement: Settlement) -> bytes:
    return msgspec.json.encode(settlement)


def letters(folder):
    """The dead letters: what was put aside, and why."""
    path = folder / spool.DEAD_LETTERS
    found = [json.loads(letter) for letter in path.read_text().splitlines()] if path.exists() else []
    return [(letter["settlement"].encode("utf-8", "surrogateescape"), letter["why"]) for letter in found]


def put(folder, name, *lines):
    """A spool file with these lines, as they are."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\n".join(lines))


async def held(writer, credential, number):
    """A number of calls, admitted and not settled."""
    calls = [admission(credential) for _ in range(number)]
    assert set(await asyncio.gather(*map(writer.admit, calls))) == {"admitted"}
    return calls


BAD = {
    "cut off": (lambda good: good[: len(good) // 2], "JSONDecodeError"),
    "not JSON": (lambda good: b"hello", "JSONDecodeError"),
    "no UTF-8": (lambda good: good.replace(b'"req_1"', b'"\xff"'), "UnicodeDecodeError"),
    "no object": (lambda good: b"[1]", "TypeError"),
    "no id": (lambda good: b'{"model": "m"}', "KeyError"),
    "a malformed id": (lambda good: b'{"id": "7"}', "DataError"),
    "a cost that overflows": (lambda good: good.replace(b'"0.002"', b'"1e40"'), "DataError"),
    "a count that overflows": (lambda good: good.replace(b":90,", b":99999999999999999999,"), "DataError"),
    "a null byte": (lambda good: good.replace(b"req_1", b"req_\\u0000"), "DataError"),
    "a missing column": (lambda good: b'{"id": %b}' % json.dumps(json.loads(good)["id"]).encode(), "IntegrityError"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_line_that_cannot_be_written_is_put_aside_and_the_others_are_written(credential, settings, name):
    spoil, why = BAD[name]
    async with beaten() as writer:
        first, bad, last = await held(writer, credential, 3)
        spoiled = spoil(line(settlement(bad)))
        put(settings.SPOOL_DIR, "1.jsonl", line(settlement(first)), spoiled, b"", line(settlement(last)))
        assert await replay() == {"settled": 2, "unreadable": 1}
        assert ledger_ids() == sorted([first.id, last.id])
        ((letter, reason),) = letters(settings.SPOOL_DIR)
        assert letter == spoiled or name == "no UTF-8"
        assert reason == why
        assert not list(settings.SPOOL_DIR.glob("1*"))
        # The call is still known by its hold.
        assert (await Hold.objects.aget()).id == bad.id


async def test_a_truncated_last_line_does_not_keep_the_lines_before_it(credential, settings):
    async with beaten() as writer:
        calls = await held(writer, credential, 5)
        lines = [line(settlement(call)) for call in calls]
        put(settings.SPOOL_DIR, "1.jsonl", *lines[:4], lines[4][:-30])
        assert await replay() == {"settled": 4, "unreadable": 1}
        assert ledger_ids() == [call.id for call in calls[:4]]


async def test_an_id_that_is_spooled_twice_is_settled_once(credential, settings):
    async with beaten() as writer:
        (call,) = await held(writer, credential, 1)
        first, second = line(settlement(call)), line(settlement(call, cost=Decimal(9)))
        put(settings.SPOOL_DIR, "1.jsonl", first, second)
        put(settings.SPOOL_DIR, "2.jsonl", first)
        assert await replay() == {"settled": 1, "repeated": 2}
    assert (await LedgerEntry.objects.aget()).cost == Decimal("0.002")
    assert count(Adjustment) == 0
    assert letters(settings.SPOOL_DIR) == []


async def test_a_spooled_settlement_of_a_call_that_was_reaped_adjusts_it_once(credential, settings):
    async with beaten() as writer:
        (call,) = await held(writer, credential, 1)
        await writer._interrupt(call.id)
        put(settings.SPOOL_DIR, "1.jsonl", line(settlement(call)), line(settlement(call)))
        assert await replay() == {"adjusted": 1, "repeated": 1}
    entry, adjustment = await LedgerEntry.objects.aget(), await Adjustment.objects.aget()
    assert entry.cost + adjustment.cost == Decimal("0.002")


async def test_two_replays_at_once_write_each_line_once(credential, settings):
    async with beaten() as writer:
        calls = await held(writer, credential, 60)
        for number in range(6):
            put(
                settings.SPOOL_DIR,
                f"{number}.jsonl",
                *(line(settlement(call)) for call in calls[number * 10 : number * 10 + 10]),
                b"cut of",
            )
        both = await asyncio.gather(*(asyncio.to_thread(replay_in_thread) for _ in range(4)))
    assert sum(verdicts.get("settled", 0) for verdicts in both) == 60
    assert sum(verdicts.get("unreadable", 0) for verdicts in both) == 6
    assert ledger_ids() == sorted(call.id for call in calls)
    assert len(letters(settings.SPOOL_DIR)) == 6
    assert {path.name for path in settings.SPOOL_DIR.iterdir()} == {spool.DEAD_LETTERS}


def replay_in_thread():
    try:
        return spool.replay()
    finally:
        connections.close_all()


async def test_a_file_that_another_replay_is_at_is_left_to_it(credential, settings):
    async with beaten() as writer:
        (call,) = await held(writer, credential, 1)
        put(settings.SPOOL_DIR, "1.jsonl", line(settlement(call)))
        with (settings.SPOOL_DIR / "1.jsonl").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert await replay() == {}
        assert await replay() == {"settled": 1}


async def test_the_dead_letters_are_never_replayed(credential, settings):
    async with beaten() as writer:
        (call,) = await held(writer, credential, 1)
        spool.bury(line(settlement(call)), "a test")
        assert await replay() == {}
        assert letters(settings.SPOOL_DIR) == [(line(settlement(call)), "a test")]


@pytest.fixture
def synced(tmp_path, monkeypatch):
    """What was synced, in order, as the spool was when it was: names of files, and what a replay would have found."""
    seen = []
    sync = os.fsync

    def fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)
        seen.append((path.name, [each.name for each in tmp_path.glob("spool/*.jsonl")]))

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_what_is_kept_is_on_disk_with_its_name_and_seen_as_a_whole(settings, tmp_path, synced):
    settings.SPOOL_DIR = tmp_path / "spool"
    spool.keep([b"one", b"two"])
    (path,) = settings.SPOOL_DIR.iterdir()
    assert path.read_bytes() == b"one\ntwo\n"
    # The folder's own name, the lines while no replay sees them, and then the file's name.
    assert synced == [(tmp_path.name, []), (path.with_suffix(".new").name, []), ("spool", [path.name])]


def test_a_dead_letter_is_on_disk_with_its_name(settings, tmp_path, synced):
    settings.SPOOL_DIR = tmp_path / "spool"
    spool.bury(b"a settlement", "a test")
    assert [name for name, _ in synced] == [tmp_path.name, spool.DEAD_LETTERS, "spool"]


async def test_a_call_that_passed_and_can_not_be_admitted_does_not_count_as_admitted(
    credential, settings, caplog, monkeypatch
):
    good, bad = admission(credential), admission(credential, ceiling=Decimal(10) ** 25)
    async with writing() as writer:
        async with database_away(monkeypatch):
            writer.admit_afterwards(good)
            writer.admit_afterwards(bad)
        await quiet(writer)
        writer.release(good.id)
        await quiet(writer)
    assert "1 calls that had passed are admitted" in caplog.text
    assert "1 calls that had passed are dead letters" in caplog.text
    assert [str(bad.id) in letter.decode() for letter, _ in letters(settings.SPOOL_DIR)] == [True]


# Root may write anywhere, but not into a folder under a file.
@pytest.fixture
def unwritable(credential, tmp_path, settings):
    (tmp_path / "file").touch()
    settings.SPOOL_DIR = tmp_path / "file" / "spool"


async def test_burying_never_raises_and_the_log_is_the_last_place(unwritable, caplog):
    for bad in (b"a settlement", b"\xff\x00", b""):
        spool.bury(bad, "a test")
    assert "a settlement" in caplog.text
    assert [record.levelname for record in caplog.records] == ["CRITICAL"] * 3


async def test_no_admitted_call_loses_its_hold_over_a_dead_letter_that_cannot_be_kept(credential, unwritable, caplog):
    async with writing() as writer:
        (poisoned, strange) = (await held(writer, credential, 1))[0], admission(credential)
        writer.settle(settlement(poisoned, cost=Decimal(10) ** 25))
        writer.settle(settlement(strange))
        calls = await held(writer, credential, 30)
        await quiet(writer)
        assert {hold.id async for hold in Hold.objects.all()} == {call.id for call in calls}
        for call in calls:
            writer.settle(settlement(call))
        await quiet(writer)
        assert {entry.id async for entry in LedgerEntry.objects.all()} == {call.id for call in (poisoned, *calls)}
    assert caplog.text.count("a dead letter can't be stored") == 2
    assert str(poisoned.id) in caplog.text


async def test_stopping_where_the_spool_cannot_be_written_leaves_the_settlements_in_the_log(
    credential, unwritable, caplog, monkeypatch
):
    writer = Writer(queue=10, patience=3, lease=15, retained=3600)
    await writer.start()
    (call,) = await held(writer, credential, 1)
    async with database_away(monkeypatch):
        writer.settle(settlement(call))
        await writer.stop(0.2)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert msgspec.json.decode(said.partition("): ")[2], type=Settlement).id == call.id


async def test_a_settlement_that_the_database_refuses_is_a_dead_letter_and_an_interrupted_row(credential, settings):
    async with writing() as writer:
        calls = await held(writer, credential, 4)
        refused = settlement(calls[1], cost=Decimal(10) ** 25)
        for call in calls:
            writer.settle(refused if call is calls[1] else settlement(call))
        await quiet(writer)
        assert count(Hold) == 0
        entries = {entry.id: entry async for entry in LedgerEntry.objects.all()}
        assert sorted(entries) == sorted(call.id for call in calls)
        entry = entries.pop(calls[1].id)
        assert (entry.status, entry.estimated, entry.input_tokens) == ("interrupted", True, 100)
        assert Decimal(0) < entry.cost <= calls[1].ceiling
        assert {other.status for other in entries.values()} == {"completed"}
        assert letters(settings.SPOOL_DIR) == [(line(refused), "NumericValueOutOfRange")]
        # A person corrects the dead letter and spools it again: the row is adjusted.
        put(settings.SPOOL_DIR, "mended.jsonl", line(settlement(calls[1])))
        assert await replay() == {"adjusted": 1}
    assert entry.cost + (await Adjustment.objects.aget()).cost == Decimal("0.002")


@pytest.fixture
def alice(apart, upstream):
    return issue(upstream)


def crash_with_open_calls(web, alice, upstream, number):
    """A number of calls that a killed process has left."""
    upstream.answer = [30.0]
    with ThreadPoolExecutor(number) as pool:
        for _ in range(number):
            pool.submit(quietly, web, alice.key)
        upstream.wait_for(number)
        web.kill()
    return list(Hold.objects.order_by("id"))


def quietly(web, key):
    with contextlib.suppress(httpx.HTTPError):
        post(web, key)


def spooled(hold, **changes):
    return json.dumps(msgspec.to_builtins(settlement(as_admission(hold), **changes))).encode()


def as_admission(hold):
    return type("Known", (), {"id": hold.id, "requested_model": hold.requested_model})


def test_a_start_replays_good_files_beside_bad_ones(apart, upstream, alice, tmp_path):
    folder = tmp_path / "spool"
    # The holds that are left must not expire meanwhile.
    web = Web(2, spool_dir=folder, lease_seconds=300)
    try:
        web.start()
        first, second, third, fourth = crash_with_open_calls(web, alice, upstream, 4)
        put(folder, "1.jsonl", spooled(first), b"nonsense", spooled(second, cost=Decimal(10) ** 25))
        put(folder, "2.jsonl", spooled(third), spooled(third), spooled(fourth)[:-9])
        web.start()  # both replay
        upstream.answer = whole(200, message())
        answer = post(web, alice.key)
        assert answer.status_code == 200
        wait_until(lambda: LedgerEntry.objects.filter(status="completed").count() == 3)
        assert {path.name for path in folder.iterdir()} == {spool.DEAD_LETTERS}
        assert len(letters(folder)) == 3
        assert {hold.id for hold in Hold.objects.all()} == {second.id, fourth.id}
    finally:
        web.close()


def test_the_gateway_starts_and_stops_where_the_spool_cannot_be_written(apart, upstream, alice, tmp_path):
    (tmp_path / "file").touch()
    web = Web(1, spool_dir=tmp_path / "file" / "spool")
    upstream.answer = whole(200, message())
    try:
        web.start()
        answer = post(web, alice.key)
        assert answer.status_code == 200
        web.signal(signal.SIGTERM)
        assert "spool" in web.log.read_text()
    finally:
        web.close()
    assert LedgerEntry.objects.get().status == "completed"
