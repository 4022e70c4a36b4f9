"""Months of the ledger that are archived: nothing changes but where their rows are, wherever a run is cut off."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection

from keys.errors import Unusable
from reconciliation import freshness
from tests.support.archived_month import (
    APRIL,
    MARCH,
    Past,
    archived,
    differing,
    ledger,
    past_month,
    rolled_up,
    settle,
    spent,
    sql,
)
from tests.support.gateway import admin_connection
from tests.support.statement_cast import called, corrected
from usage import archive_files, archive_policy, archiving, price_runs, restoring, rollups, tasks, verification
from usage.archived import State
from usage.models import Adjustment, ArchivedMonth, Hold, LedgerEntry


@pytest.fixture
def past(apart: Any, tmp_path: Any, settings: Any) -> Iterator[Past]:
    settings.ARCHIVE_DIR = tmp_path
    with past_month(tmp_path) as past:
        yield past


def march() -> int:
    return LedgerEntry.objects.filter(id__lt=archiving.ledger_month(APRIL).first_id).count()


def test_an_archived_month_is_put_back_as_it_was(past: Past, capsys: Any) -> None:
    corrected(past.late, "0.125")
    settle()
    before, sums = ledger(), rolled_up()
    call_command("archive_month", "2025-03", "--drop")
    assert "ledger-2025-03.csv.gz: 4 rows" in capsys.readouterr().out
    assert (march(), len(ledger())) == (0, 1)
    assert sql("SELECT to_regclass('usage_ledgerentry_202503')") == [(None,)]
    assert rolled_up() == sums
    assert verification.verify() == verification.check_point(whole=True).faults == []
    call_command("archive_month", "2025-03")
    assert "was archived before" in capsys.readouterr().err
    # A row that comes late all the same is kept, and goes where the others are.
    stray = called(past.cast.bob, datetime(2025, 3, 29, tzinfo=UTC))
    call_command("restore_month", str(past.folder / "ledger-2025-03.json"))
    assert set(ledger()) > set(before)
    assert len(ledger()) == len(before) + 1
    assert sql("SELECT count(*) FROM usage_ledgerentry_202503 WHERE id = %s", [stray]) == [(1,)]
    assert not ArchivedMonth.objects.exists()
    rollups.roll_up()
    assert verification.verify() == verification.check_point(whole=True).faults == []
    assert differing() == []


def test_a_month_stays_for_as_long_as_reports_of_providers_are_read() -> None:
    assert archiving.READ_FOR == freshness.DAILY


def test_it_says_every_reason_against_it(past: Past) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Unusable, match="isn't over"):
        archiving.refuse(archiving.ledger_month(now.date().replace(day=1)))
    last = (now.date().replace(day=1) - timedelta(days=1)).replace(day=1)
    with pytest.raises(Unusable, match=r"reports of providers about it are read until|comes first"):
        archiving.refuse(archiving.ledger_month(last))
    Hold.objects.create(
        id=past.late, process=None, admitted_at=datetime(2025, 3, 31, tzinfo=UTC), credential=0, customer_id=1,
        virtual_key_id=1, endpoint="messages", requested_model="m", stream=False, provider="anthropic", ceiling=1,
        input_tokens=1, input_cost=0, max_tokens=1, output_price=0, price_version="",
    )  # fmt: skip
    sql("INSERT INTO usage_retained (id, retained_at, charges) VALUES (%s, %s, '{}')", [past.labelled, now])
    called(past.cast.bob, datetime(2024, 12, 9, tzinfo=UTC))
    with pytest.raises(Unusable) as refused:
        archiving.refuse(archiving.ledger_month(MARCH))
    for reason in ("2 of its calls are held", "behind a verified checkpoint", "roll-ups are not complete"):
        assert reason in str(refused.value)
    with pytest.raises(Unusable, match="2025-03 comes first"):
        archiving.refuse(archiving.ledger_month(APRIL))
    with pytest.raises(Unusable, match="1 of its rows are in the default partition"):
        archiving.refuse(archiving.ledger_month(date(2024, 12, 1)))
    assert march() == 5


@pytest.mark.parametrize("step", ["archive_files.check", "archive_files.export", "store", "GUARD", "detach"])
def test_a_run_that_is_cut_off_is_repeated(past: Past, monkeypatch: Any, step: str) -> None:
    settle()
    before = ledger()
    with monkeypatch.context() as patched:
        if step == "GUARD":
            patched.setattr(archiving, "GUARD", "SELECT cut_off()")
        else:
            target: Any = archiving
            for name in step.split(".")[:-1]:
                target = getattr(target, name)
            name = step.split(".")[-1]
            whole = getattr(target, name)

            def cut(*args: Any, **options: Any) -> None:
                whole(*args, **options)
                raise KeyboardInterrupt

            patched.setattr(target, name, cut)
        with pytest.raises(DatabaseError if step == "GUARD" else KeyboardInterrupt):
            archived(past, drop=True)
    away = ArchivedMonth.objects.exclude(state=State.EXPORTED).exists()
    assert (march() == 0) == away
    assert verification.verify() == verification.check_point(whole=True).faults == []
    done = archived(past, drop=True)
    assert march() == 0
    assert done.row.state == State.DROPPED
    assert not list(past.folder.glob("*.partial"))
    assert verification.verify() == verification.check_point(whole=True).faults == []
    restoring.restore(past.folder / "ledger-2025-03.json", by="test")
    assert ledger() == before


def test_the_second_run_at_once_finds_it_done(past: Past) -> None:
    settle()
    done = list[archiving.Done]()

    def run() -> None:
        done.append(archived(past, drop=True))
        connection.close()

    runs = [threading.Thread(target=run) for _ in range(2)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert sorted(each.fresh for each in done) == [False, True]
    assert sorted(each.dropped for each in done) == [False, True]
    assert march() == 0


def test_what_is_written_to_a_month_while_it_is_exported_keeps_it_in_the_ledger(past: Past, monkeypatch: Any) -> None:
    settle()
    whole = archive_files.export

    def export(*args: Any) -> Any:
        found = whole(*args)
        corrected(past.late, "0.125")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(archive_files, "export", export)
        with pytest.raises(Unusable, match="was written to while it was exported"):
            archived(past)
    assert march() == 4
    assert verification.verify() == []
    settle()
    archived(past)
    assert verification.verify() == verification.check_point(whole=True).faults == []


def test_calls_are_settled_while_the_lock_is_not_free(past: Past, monkeypatch: Any) -> None:
    monkeypatch.setattr(archiving, "TRIES", 10_000)
    monkeypatch.setattr(archiving, "PAUSE", 0.01)
    settle()
    done = list[archiving.Done]()

    def run() -> None:
        done.append(archived(past))
        connection.close()

    with admin_connection() as settling, admin_connection() as watching:
        settling.execute("BEGIN")
        settling.execute("LOCK TABLE ONLY usage_ledgerentry IN ROW EXCLUSIVE MODE")
        thread = threading.Thread(target=run)
        thread.start()
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'usage_ledgerentry'::regclass)"
        while watching.execute(waits).fetchone() == (False,):
            assert thread.is_alive()
        # Without a bound, these would wait until the other settlement has ended.
        for _ in range(3):
            called(past.cast.bob, datetime(2025, 4, 3, tzinfo=UTC))
        assert not done
        settling.execute("COMMIT")
        thread.join()
    assert [each.fresh for each in done] == [True]
    assert (march(), LedgerEntry.objects.count()) == (0, 4)


def test_two_exports_of_a_month_are_the_same_bytes(past: Past, tmp_path: Any) -> None:
    of = archiving.ledger_month(MARCH)
    files = []
    for name, zone in (("one", "UTC"), ("two", "Asia/Kolkata")):
        sql(f"SET timezone = '{zone}'")
        archive_files.export(archive_files.Place(tmp_path / name, MARCH), of.table, of.first_id, of.end_id)
        files.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    sql("SET timezone = 'UTC'")
    assert files[0][:2] == files[1][:2]
    assert [len(each) for each in files] == [3, 3]


@pytest.mark.parametrize("part", ["rows", "manifest", "away"])
def test_files_that_were_changed_are_refused(past: Past, part: str) -> None:
    settle()
    archived(past, drop=part != "rows")
    place = archive_files.Place(past.folder, MARCH)
    if part == "rows":
        text = gzip.decompress(place.rows.read_bytes()).replace(b"claude-opus", b"claude-opuz", 1)
        place.rows.write_bytes(gzip.compress(text))
        with pytest.raises(Unusable, match="isn't what its manifest says"):
            archived(past, drop=True)
        assert sql("SELECT count(*) FROM usage_ledgerentry_202503") == [(4,)]
    elif part == "manifest":
        said = json.loads(place.manifest.read_text())
        said["files"][place.rows.name]["sha256"] = "0" * 64
        place.manifest.write_text(json.dumps(said))
    else:
        place.rows.unlink()
    with pytest.raises(CommandError):
        call_command("restore_month", str(place.manifest))
    assert march() == 0


def test_nothing_changes_an_archived_call_or_sums_it_again(past: Past, capsys: Any) -> None:
    settle()
    archived(past)
    with pytest.raises(IntegrityError, match="is archived: restore its month first"):
        corrected(past.late, "0.125")
    assert not Adjustment.objects.exists()
    with pytest.raises(DatabaseError, match="append-only"):
        sql("UPDATE usage_ledgerentry_202503 SET cost = 1")
    for since in ("2024-01-01", "2025-03-30", "2025-04-01"):  # a row of March was admitted in April
        with pytest.raises(CommandError, match=r"2025-03 is archived in .*restore_month"):
            call_command("rebuild_rollups", "--since", since)
    assert next(rollups.rebuild())[0] == date(2025, 4, 2)
    assert {rollups.random_hour() for _ in range(5)} <= {datetime(2025, 4, 2, tzinfo=UTC), None} | {
        datetime(2025, 4, 1, hour, tzinfo=UTC) for hour in range(1, 24)
    }
    with pytest.raises(Unusable, match="archived calls can't be priced again"):
        price_runs.Which(datetime(2025, 3, 5, tzinfo=UTC)).rows()
    call_command("export_usage", "--format", "csv")
    assert "The export lacks archived calls: 2025-03 is archived in" in capsys.readouterr().err
    sums = rolled_up()
    rollups.complete()
    assert rolled_up() == sums


def test_the_policy_archives_old_months_and_deletes_their_tables_later(past: Past, settings: Any) -> None:
    settle()
    assert list(archive_policy.run()) == []
    configuration = settings.CONFIGURATION
    settings.CONFIGURATION = configuration.model_copy(update={"ledger_months": 2, "archive_kept_days": 1})
    assert [line[:19] for line in archive_policy.run()] == ["2025-03 is archived", "2025-04 is archived"]
    assert not LedgerEntry.objects.exists()
    ArchivedMonth.objects.update(archived_at=datetime.now(UTC) - timedelta(days=2))
    assert list(archive_policy.run()) == ["the table of 2025-03 is deleted", "the table of 2025-04 is deleted"]


def test_rows_in_the_default_partition_are_named_and_can_be_moved(past: Past, caplog: Any) -> None:
    spent(past.cast.alice, datetime(2024, 12, 9, tzinfo=UTC), past.budget)
    tasks.make_partitions()
    assert "1 ledger rows of 2024-12 are in the default partition" in caplog.text
    before = ledger()
    try:
        call_command("restore_month", "--strays", "2024-12")
        assert ledger() == before
        assert restoring.strays() == {}
        with pytest.raises(CommandError, match="no row of 2024-12"):
            call_command("restore_month", "--strays", "2024-12")
    finally:
        sql("DROP TABLE IF EXISTS usage_ledgerentry_202412")
