"""docs/security.md names tests that are there, and `make attack` finds its table in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from attacks import calls, pages, table  # noqa: F401
from attacks.measure import Taken
from attacks.scene import ATTACKS
from attacks.table import BEGIN, END, Felts, Outcome

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "security.md"
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text())
PEACE = Felts(40, 0, 8.0, 20.0, 25.0)


def outcome(attack, **taken):
    return Outcome(attack, Felts(100, 0, 9.0, 30.0, 40.0), Taken(connections=9, **taken), "403 ×2")


@cache
def text_of(file: str) -> str:
    path = ROOT / "tests" / file
    return path.read_text() if path.is_file() else ""


def test_each_test_that_the_page_names_is_there():
    assert NAMED
    missing = [
        f"{file}::{name}" for file, name in NAMED if not re.search(rf"^(async )?def {name}\(", text_of(file), re.M)
    ]
    assert missing == []


def test_each_row_of_a_threat_names_a_test():
    threats = PAGE.read_text().partition(BEGIN)[0].partition("## Money")[2]
    rows = [line for line in threats.splitlines() if line.startswith("| ") and not line.startswith("| Attacker |")]
    assert [row for row in rows if not re.search(r"`\w+/test_\w+\.py::", row)] == []


def test_each_attack_says_what_it_sends():
    assert {attack.point for attack in ATTACKS} == set(range(6, 17))
    assert all(attack.sent for attack in ATTACKS)
    assert len({table.key(attack) for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("text", [PAGE.read_text(), f"Above\n{BEGIN}\n{END}\nbelow"], ids=["as it is", "empty"])
def test_a_column_is_written_and_everything_else_stays(tmp_path, text):
    page = tmp_path / "security.md"
    page.write_text(text)
    first, *others = ATTACKS
    table.write(page, ATTACKS, "before", [outcome(each, rows=7) for each in ATTACKS], PEACE)
    table.write(page, ATTACKS, "after", [outcome(first, rows=3)], PEACE)
    table.write(page, ATTACKS, "after", [outcome(each) for each in others], PEACE)
    written = page.read_text()
    cells, _ = table.read(written, ATTACKS)
    assert cells[table.key(first)] == {"before": outcome(first, rows=7).cell(), "after": outcome(first, rows=3).cell()}
    assert cells[table.key(others[-1])]["after"] == outcome(others[-1]).cell()
    assert written.partition(BEGIN)[0] == text.partition(BEGIN)[0]
    assert written.partition(END)[2] == text.partition(END)[2]


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path):
    page = tmp_path / "security.md"
    page.write_text("Nothing\n")
    with pytest.raises(ValueError, match="has no"):
        table.write(page, ATTACKS, "after", [], PEACE)


def test_each_broken_bound_is_named():
    within, beyond = outcome(ATTACKS[0]), outcome(ATTACKS[0], memory=10**9, restarts=1)
    within.judge(PEACE)
    beyond.judge(PEACE)
    assert within.faults == []
    assert beyond.faults == ["it took more than 256 MB of memory", "1 web processes ended"]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_library_is_pinned_with_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    assert all(
        re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==\S+( .*)?( +--hash=sha256:[0-9a-f]{64})+\s*", line) for line in lines
    )
