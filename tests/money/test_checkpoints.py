"""Checkpoints: the verifier starts from the last one, and a changed digit in any of them is found."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError

from tests.support.archived_month import Past, past_month, settle, spent, sql
from tests.support.statement_cast import corrected
from usage import verification
from usage.models import Checkpoint, CheckpointWindow, Window


@pytest.fixture
def past(apart: Any, tmp_path: Any) -> Iterator[Past]:
    with past_month(tmp_path) as past:
        yield past


def forged(statement: str, *values: Any) -> None:
    """Change what may not be changed, as someone with the database could."""
    sql("SET session_replication_role = replica")
    try:
        sql(statement, values)
    finally:
        sql("SET session_replication_role = origin")


def test_it_starts_from_the_last_checkpoint_and_not_from_the_whole_ledger(past: Past, capsys: Any) -> None:
    settle()
    # Only what the checkpoint has can still say that this was spent.
    forged("DELETE FROM usage_ledgerentry WHERE id = %s", past.late)
    assert verification.verify() == []
    assert len(verification.check_point(whole=True).faults) == 1
    call_command("verify_ledger")
    assert "Every counter" in capsys.readouterr().out


def test_late_adjustments_of_calls_before_a_checkpoint_count_after_it(past: Past) -> None:
    settle()
    corrected(past.late, "-0.125")
    assert Window.objects.get(budget=past.budget).spent == Decimal("0.625")
    assert verification.verify() == []
    settle()
    assert CheckpointWindow.objects.latest("checkpoint").spent == Decimal("0.625")
    assert verification.check_point(whole=True).faults == []
    Window.objects.update(spent=0)
    (fault,) = verification.verify()
    assert "counted 0.000000000000, derived 0.625000000000" in str(fault)


def test_where_a_counter_is_wrong_no_checkpoint_is_made(past: Past) -> None:
    Window.objects.update(spent=1)
    assert verification.check_point().checkpoint is None
    assert not Checkpoint.objects.exists()


def test_windows_that_did_not_change_are_not_stored_again(past: Past) -> None:
    settle()
    settle()
    assert Checkpoint.objects.count() >= 2
    assert CheckpointWindow.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE usage_checkpointwindow SET spent = spent + 0.000000000001",
        "UPDATE usage_checkpoint SET below_xid = (below_xid::numeric - 1)::text WHERE previous_hash = ''",
        "DELETE FROM usage_checkpointwindow",
    ],
)
def test_a_changed_digit_is_found_and_the_whole_ledger_begins_a_new_chain(past: Past, change: str) -> None:
    settle()
    with pytest.raises(DatabaseError, match="a checkpoint is never changed"):
        sql(change)
    forged(change)
    found = verification.check_point()
    assert "its hash is not that of what it says" in str(found.faults[0])
    assert found.checkpoint is None
    spent(past.cast.alice, past.cast.alice.created_at.replace(year=2025, month=4), past.budget)
    assert verification.check_point(whole=True).checkpoint is not None
    assert verification.verify() == []
