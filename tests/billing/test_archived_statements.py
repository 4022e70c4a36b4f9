"""Statements and their evidence when the months behind them are archived, and months that aren't closed yet."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing import credit_notes, evidence, verification
from billing.models import ArchivedCover, Statement
from keys.errors import Unusable
from tests.support.archived_month import (
    APRIL,
    MARCH,
    PERSON,
    Past,
    archived,
    close_months,
    past_month,
    rolled_up,
    settle,
)
from tests.support.statement_cast import corrected, no_files
from usage import archive_rewriting, archiving, restoring
from usage import verification as counters
from usage.label_erasure import Label
from usage.models import LedgerEntry

MAY = date(2025, 5, 1)
ROWS = ("calls.csv", "adjustments.csv", "verification.txt")


@pytest.fixture
def past(apart: Any, tmp_path: Any, settings: Any) -> Iterator[Past]:
    settings.ARCHIVE_DIR = tmp_path
    with past_month(tmp_path) as past:
        yield past


def said() -> dict[str, Any]:
    """What documents and their evidence packs say, and what their verification finds."""
    found: dict[str, Any] = {}
    for each in Statement.objects.select_related("closing", "issuer", "corrects").order_by("pk"):
        with evidence.make(each, names=True) as file, zipfile.ZipFile(file) as pack:
            rows = {name: pack.read(name) for name in pack.namelist() if name in ROWS or name == f"{each.number}.json"}
        found[each.number] = (each.hash, each.total_usd, verification.verify(each), rows)
    return found


def test_sums_statements_evidence_and_verifier_are_unchanged(past: Past) -> None:
    corrected(past.labelled, "0.125")
    close_months(past, MARCH)
    corrected(past.late, "-0.0625")  # on the next statement
    corrected(past.labelled, "-0.25")
    credit = past.cast.alice.customer.closings.get()
    credit_notes.issue(credit, reason="agreed", by="finance", make_files=no_files)
    corrected(past.late, "0.03125")
    close_months(past, APRIL)
    settle()
    before, sums = said(), rolled_up()
    assert len(before) == 4
    assert all(not faults for _, _, faults, _ in before.values())
    archived(past, drop=True)
    assert not LedgerEntry.objects.filter(pk=past.late).exists()
    archive_rewriting.erase(Label("user"))
    archive_rewriting.erase(Label("cost_centre", PERSON))
    assert said() == before
    assert rolled_up() == sums
    call_command("verify_statement")
    assert counters.verify() == counters.check_point(whole=True).faults == []
    # What is closed later has nothing of it.
    close_months(past, MAY)
    assert all(each.total_usd == 0 for each in Statement.objects.filter(month=MAY))
    restoring.restore(past.folder / "ledger-2025-03.json", by="test")
    assert not ArchivedCover.objects.exists()
    assert {number: said()[number] for number in before} == before


def test_no_month_is_detached_before_everything_in_it_is_on_a_statement(past: Past) -> None:
    settle()
    assert list(archiving.reasons(archiving.ledger_month(MARCH))) == []  # there are no statements here
    close_months(past)
    with pytest.raises(Unusable, match=r"on no statement yet: Ours \(3\), Theirs \(1\)"):
        archived(past)
    close_months(past, MARCH)
    settle()
    # Theirs has a call whose id is of March, and that was admitted in April.
    with pytest.raises(Unusable, match=r"on no statement yet: Theirs \(1\)"):
        archived(past)
    close_months(past, APRIL)
    corrected(past.late, "0.125")
    settle()
    with pytest.raises(Unusable, match=r"on no statement yet: Ours \(1\)"):
        archived(past)
    close_months(past, MAY)
    settle()
    archived(past)
    (owed,) = ArchivedCover.objects.filter(cover__closing__month=MAY).values_list("owed", flat=True)
    assert owed == Decimal("0.125")


def test_a_correction_while_a_closed_month_is_exported_is_on_the_next_statement(past: Past, monkeypatch: Any) -> None:
    close_months(past, MARCH, APRIL)
    settle()
    whole = archiving.export

    def export(*args: Any) -> Any:
        found = whole(*args)
        corrected(past.late, "0.125")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(archiving, "export", export)
        with pytest.raises(Unusable, match="was written to while it was exported"):
            archived(past)
    close_months(past, MAY)
    assert sum(each.total_usd for each in Statement.objects.filter(month=MAY)) == Decimal("0.125")


def test_a_month_that_is_closed_meanwhile_ends_the_run(past: Past, monkeypatch: Any) -> None:
    settle()
    whole = archiving.export

    def export(*args: Any) -> Any:
        found = whole(*args)
        close_months(past, MARCH)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(archiving, "export", export)
        with pytest.raises(Unusable, match="a month was closed or credited while 2025-03 was exported"):
            archived(past)
    assert LedgerEntry.objects.filter(pk=past.late).exists()


def test_an_evidence_pack_names_the_file_that_it_lacks(past: Past) -> None:
    close_months(past, MARCH, APRIL)
    settle()
    archived(past, drop=True)
    (past.folder / "ledger-2025-03.csv.gz").unlink()
    number = Statement.objects.earliest("pk").number
    with pytest.raises(CommandError, match=r"2025-03 is archived, and .*ledger-2025-03\.csv\.gz can't be read"):
        call_command("evidence_pack", number, "--output", str(past.folder / "pack.zip"))
    assert verification.verify(Statement.objects.get(number=number)) == []
