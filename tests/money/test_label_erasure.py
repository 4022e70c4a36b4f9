"""`manage.py erase_label`: a label is gone from everything that is recorded of calls, and no sum changes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.audit.models import AuditEvent
from keys.models import VirtualKey
from tests.support.archived_month import (
    MARCH,
    PERSON,
    Past,
    archived,
    differing,
    ledger,
    past_month,
    rolled_up,
    settle,
    sql,
)
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import archive_files, archive_rewriting, label_erasure, restoring, rollups, verification
from usage.label_erasure import Label
from usage.models import Adjustment, ArchivedMonth, Hold, LedgerEntry, Rollup

HELD = dict.fromkeys(("ceiling", "input_tokens", "input_cost", "max_tokens", "output_price", "credential"), 1)


@pytest.fixture
def past(apart: Any, tmp_path: Any) -> Iterator[Past]:
    with past_month(tmp_path) as past:
        yield past


def settled_late(past: Past) -> Adjustment:
    """A settlement that came late, with the labels of its client."""
    return Adjustment.objects.create(
        entry_id=past.late,
        reason="late_settlement",
        cost=Decimal(0),
        detail={"client_labels": {"user": PERSON, "tool": "ide"}, "model": "m"},
    )


@pytest.fixture
def events_before(past: Past) -> int:
    """The last event of the audit log, which keeps those of other tests."""
    return AuditEvent.objects.latest("id").pk


def mentions(text: str, events_before: int) -> list[str]:
    """The tables of the database that have a text in a row; of the audit log, in an event after this one."""
    tables = [
        name for (name,) in sql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname !~ '^pg_'")
    ]
    tables = [name for name in tables if not name.startswith(("information_schema", "pg_catalog"))]
    later = {"keys_auditevent": f"id > {events_before} AND"}
    found = "SELECT 1 FROM {name} t WHERE {later} strpos(t::text, %s) > 0 LIMIT 1"
    return [name for name in tables if sql(found.format(name=name, later=later.get(name, "")), [text])]


def test_a_label_is_gone_everywhere_and_no_sum_changes(past: Past, events_before: int, capsys: Any) -> None:
    settled_late(past)
    alice = past.cast.alice
    hold = Hold.objects.create(
        **HELD, virtual_key=alice, team=alice.team, customer=alice.customer, admitted_at=datetime.now(UTC),
        stream=False, client_labels={"user": PERSON}, labels={"cost_centre": PERSON},
    )  # fmt: skip
    settle()
    before, sums = ledger(), rolled_up()
    call_command("erase_label", "user", PERSON)
    said = capsys.readouterr()
    assert said.out.startswith("1 ledger rows, 1 adjustments and 1 holds have the label.")
    assert "Nothing is erased" in said.err
    assert ledger() == before
    call_command("erase_label", "user", PERSON, "--yes")
    call_command("erase_label", "cost_centre", PERSON, "--yes")
    hold.refresh_from_db()
    assert (hold.labels, hold.client_labels) == ({}, {})
    hold.delete()
    assert mentions(PERSON, events_before) == []
    row = LedgerEntry.objects.get(pk=past.labelled)
    assert (row.labels, row.client_labels) == ({"floor": "2"}, {"tool": "ide"})
    assert rolled_up() == sums
    assert set(Rollup.objects.values_list("cost_centre", flat=True)) == {"", "4711"}
    assert differing() == []
    assert verification.verify() == verification.check_point(whole=True).faults == []
    without = [{**json.loads(each), "labels": 0, "client_labels": 0} for each in ledger()]
    assert without == [{**json.loads(each), "labels": 0, "client_labels": 0} for each in before]
    event = AuditEvent.objects.filter(action="label erased", object="user").latest("pk")
    assert event.changes["rows"] == {"to": "1"}


def test_what_virtual_keys_or_other_customers_have_stays(past: Past) -> None:
    VirtualKey.objects.filter(pk=past.cast.alice.pk).update(labels={"cost_center": PERSON})
    with pytest.raises(CommandError, match="remove it from alice first"):
        call_command("erase_label", "cost_centre", PERSON, "--yes")
    VirtualKey.objects.filter(pk=past.cast.alice.pk).update(labels={})
    call_command("erase_label", "cost_centre", PERSON, "--customer", "Theirs", "--yes")
    assert LedgerEntry.objects.get(pk=past.labelled).labels["cost_centre"] == PERSON
    call_command("erase_label", "cost_centre", "--customer", "Ours", "--yes")
    assert not LedgerEntry.objects.filter(labels__has_key="cost_centre").exists()


@pytest.mark.parametrize(
    "change", ["cost = cost + 1", 'labels = \'{"cost_centre": "other"}\'', 'labels = labels || \'{"more": "x"}\'']
)
def test_the_way_to_erase_changes_nothing_else(past: Past, change: str) -> None:
    settled_late(past)
    erasing = "SELECT set_config('usage.ledger_gate', 'erase', false)"
    moving = "SELECT set_config('usage.ledger_gate', 'move', false), set_config('usage.moved_to', 'usage_hold', false)"
    try:
        for gate, statement in (
            (erasing, f"UPDATE usage_ledgerentry SET {change}"),
            (erasing, "UPDATE usage_adjustment SET detail = '{}'"),
            (erasing, "DELETE FROM usage_ledgerentry"),
            (moving, "DELETE FROM usage_ledgerentry"),
        ):
            sql(gate)
            with pytest.raises(DatabaseError, match="append-only"):
                sql(statement)
    finally:
        sql("SELECT set_config('usage.ledger_gate', '', false)")


@pytest.mark.parametrize("cut_off", [False, True])
def test_the_files_of_archives_are_replaced(past: Past, events_before: int, monkeypatch: Any, cut_off: bool) -> None:
    settled_late(past)
    settle()
    archived(past)
    said, sums = ArchivedMonth.objects.get().manifest, rolled_up()
    with monkeypatch.context() as patched:
        if cut_off:  # after the new hashes are stored, before the files are moved
            calls = iter((None,))

            def finish(row: ArchivedMonth) -> None:
                if next(calls, 1):
                    raise KeyboardInterrupt

            patched.setattr(archive_rewriting, "finish", finish)
            with pytest.raises(KeyboardInterrupt):
                archive_rewriting.erase(Label("user"))
    archive_rewriting.erase(Label("user"))
    found, left = archive_rewriting.erase(Label("cost_centre", PERSON))
    assert (found.archived, left) == (1, [])
    row = ArchivedMonth.objects.get()
    assert archive_rewriting.sums(row.manifest) == archive_rewriting.sums(said)
    assert row.manifest != said
    for path in past.folder.glob("*.gz"):
        assert PERSON not in gzip.decompress(path.read_bytes()).decode()
    assert mentions(PERSON, events_before) == []
    assert rolled_up() == sums
    assert verification.verify() == verification.check_point(whole=True).faults == []
    restoring.restore(past.folder / "ledger-2025-03.json", by="test")
    assert differing() == []


def test_archives_that_are_not_there_are_named(past: Past, capsys: Any) -> None:
    settle()
    archived(past)
    archive_files.Place(past.folder, MARCH).rows.unlink()
    with pytest.raises(CommandError, match="Some archives have the label still"):
        call_command("erase_label", "user", PERSON, "--yes")
    assert "Not reached: " in capsys.readouterr().err


NAMES = st.sampled_from(("cost_centre", "cost_center", "project", "user"))
LABELS = st.dictionaries(NAMES, st.sampled_from(("a", "b")), max_size=4)


@pytest.mark.django_db(transaction=True)
@settings(max_examples=4)
@given(st.lists(st.tuples(LABELS, st.integers(0, 50)), min_size=1, max_size=6), NAMES, st.sampled_from((None, "a")))
def test_roll_ups_equal_the_ledger_after_each_erasure(
    rows: list[tuple[dict[str, str], int]], name: str, value: str | None
) -> None:
    empty_ledger()
    key = VirtualKey.objects.filter(name="alice").first() or make_cast().alice
    start = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)
    for labels, minutes in rows[1:]:
        make_entry(key, start + timedelta(minutes=minutes), labels=labels, client_labels=labels)
    rollups.roll_up()
    # One that isn't rolled up yet.
    make_entry(key, start, labels=rows[0][0], client_labels=rows[0][0])
    label_erasure.erase_recorded(Label(name, value))
    rollups.roll_up()
    assert [found for _, found in rollups.rebuild(start.date(), start.date() + timedelta(days=1))] == [None, None]
    assert label_erasure.count(Label(name, value)).rows == 0
    assert LedgerEntry.objects.count() == len(rows)
