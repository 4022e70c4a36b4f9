"""The tour and finance's month show each step of their walks in pictures: light, dark, and on a phone. They have no
others, and stay small."""

from __future__ import annotations

import re

import pytest

from tests.support.gateway import ROOT

PICTURES = ROOT / "docs/pictures"
MOST_BYTES = 2_400_000
# The walks that a page shows.
WALKS = {"tour.md": "test_walks.py", "finance-month.md": "test_finance_month.py"}
ENDINGS = ("-dark", "", "-phone")


def steps(page: str) -> list[str]:
    """The pictures of all steps of a page's walks, in their order."""
    found = []
    walks = re.split(r"\bWalk\(", (ROOT / "tests/admin" / WALKS[page]).read_text())[1:]
    for walk in walks:
        name = re.match(r'chromium, site, "([\w-]+)"', walk)
        assert name
        steps = re.findall(r'\b(step|paper)\((?:walk, )?"([\w-]+)"|\blook\(walk, "([\w-]+)"', walk)
        for number, (kind, step, looked) in enumerate(steps, 1):
            endings = ("",) if kind == "paper" else ENDINGS
            found += [f"{name[1]}-{number}-{step or looked}{ending}.webp" for ending in endings]
    return found


@pytest.mark.parametrize("page", WALKS)
def test_a_page_shows_each_step_in_order(page: str) -> None:
    shown = re.findall(r'src(?:set)?="pictures/([^"]+)"', (ROOT / "docs" / page).read_text())
    assert len(steps(page)) > 20
    assert shown == steps(page)


def test_each_picture_is_there_and_no_other():
    assert {file.name for file in PICTURES.iterdir()} == {picture for page in WALKS for picture in steps(page)}
    assert sum(file.stat().st_size for file in PICTURES.iterdir()) < MOST_BYTES
