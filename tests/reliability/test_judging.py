"""A broken promise is seen by the judge of `make faults`."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reliability import judge, page
from reliability.judge import Balance, Row, Verdict
from reliability.load import Call
from reliability.program import ROOT
from reliability.scenes import FAULTS

CALLS = [
    Call("a-1", "json", 10.0, 0.2, "200"),
    Call("a-2", "stream", 11.0, 0.2, "200"),
    Call("a-3", "json", 12.0, 0.2, "503"),
    Call("a-4", "stream", 13.0, 0.2, "cut off"),
]
UPSTREAM = {"a-1": 1, "a-2": 1, "a-4": 1}
ROWS = [
    Row("a-1", "ok", 1, 7, False),
    Row("a-2", "ok", 1, 7, False),
    Row("a-4", "interrupted", 0, 60, True),
]


def compared(calls=CALLS, upstream=UPSTREAM, rows=ROWS, *, killed=True, allowed=("503", "cut off")):
    return judge.compare(calls, upstream, rows, killed=killed, allowed=frozenset(allowed))


def test_a_run_that_kept_its_promises_has_no_fault():
    assert compared() == []


def test_a_lost_row_is_found():
    assert compared(rows=ROWS[1:]) == ["calls reached the provider and have no row: 1 (a-1)"]


def test_a_row_too_many_is_found():
    assert compared(rows=[*ROWS, ROWS[0]]) == ["calls have more than one row: 1 (a-1)"]


def test_a_row_without_a_call_must_be_interrupted():
    interrupted = Row("a-3", "interrupted", 0, 0, True)
    assert compared(rows=[*ROWS, interrupted]) == []
    settled = Row("a-3", "ok", 1, 7, False)
    assert compared(rows=[*ROWS, settled]) == ["rows are of calls that never reached the provider: 1 (a-3)"]


def test_a_row_may_be_interrupted_only_where_a_process_was_killed():
    assert compared(killed=False) == ["rows are interrupted, and no process was killed: 1 (a-4)"]


def test_an_attempt_that_no_row_mentions_is_found():
    said = ["calls reached the provider more often than their rows say: 1 (a-2)"]
    assert compared(upstream=UPSTREAM | {"a-2": 2}) == said
    retried = Row("a-2", "ok", 2, 7, False)
    assert compared(upstream=UPSTREAM | {"a-2": 2}, rows=[ROWS[0], retried, ROWS[2]]) == []


def test_an_answer_that_the_provider_never_gave_is_found():
    assert compared(upstream={"a-2": 1, "a-4": 1}) == [
        "rows are of calls that never reached the provider: 1 (a-1)",
        "answers never came from the provider: 1 (a-1)",
    ]


@pytest.mark.parametrize("row", [Row("a-1", "ok", 1, 0, False), Row("a-1", "ok", 1, 7, True)])
def test_a_whole_answer_with_an_estimated_or_empty_row_is_found(row):
    says = "answers arrived whole, and their rows don't say what the provider reported: 1 (a-1)"
    assert compared(rows=[row, *ROWS[1:]]) == [says]


def test_an_end_that_was_not_promised_is_found():
    assert compared(allowed=("503",)) == ["1 calls ended with “cut off”"]


def test_a_call_that_no_client_made_is_found():
    stranger = Row("a-9", "ok", 1, 7, False)
    assert "calls were made that no client made: 1 (a-9)" in compared(rows=[*ROWS, stranger])


def test_a_budget_that_differs_from_its_rows_or_holds_is_found():
    one, two = Decimal(1), Decimal(2)
    assert judge.balance([Balance("7", one, two, one, two)]) == []
    assert judge.balance([Balance("7", one, two, two, two)]) == ["budget 7 has 1 spent, its rows add up to 2"]
    assert judge.balance([Balance("7", one, two, one, one)]) == ["budget 7 has 2 held, its holds add up to 1"]


def test_recovery_is_the_time_until_calls_are_answered_for_good():
    def call(due: float, ended: str) -> Call:
        return Call("a-1", "json", due, 0.1, ended)

    assert judge.recovery([call(11, "200")], since=10) == 0
    assert judge.recovery([call(9, "503"), call(11, "200"), call(12, "503"), call(13, "200")], since=10) == 3
    assert judge.recovery([call(11, "200"), call(12, "503")], since=10) is None
    assert judge.recovery([], since=10) is None


def test_the_table_names_broken_promises_and_replaces_only_its_own_place(tmp_path):
    verdict = Verdict(3, {"200": 2, "503": 1}, 2, 2, 0, 0, 0, 1.25, ["1 | lost"])
    table = page.of_faults({"web-killed": verdict}, "today")
    line = "| web-killed | 2 × 200, 1 × 503 | 2 | 2 | 0 | 0 | 0 | 1.2 s | **1 \\| lost** | today |"
    assert line in table
    both = page.of_faults({"disk-full": verdict}, "later", ["disk-full", "web-killed", "packet-loss"], table)
    assert [text.split(" | ")[0] for text in both.splitlines()[2:]] == ["| disk-full", "| web-killed"]
    assert line in both
    there = tmp_path / "page.md"
    there.write_text("before\n<!-- make faults -->\nold\n<!-- end of make faults -->\nafter\n")
    page.write(there, "faults", table)
    assert there.read_text() == f"before\n<!-- make faults -->\n\n{table}\n\n<!-- end of make faults -->\nafter\n"
    with pytest.raises(ValueError, match="no <!-- make soak -->"):
        page.write(there, "soak", table)


def test_the_page_has_the_promise_of_each_fault():
    text = (ROOT / "docs" / "reliability.md").read_text()
    for fault in FAULTS:
        assert page.row([fault.name, fault.what, fault.promise]) in text
