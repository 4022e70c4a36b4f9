"""The tour shows each step of the walks in pictures: light, dark, and on a phone. It has no others, and stays small."""

from __future__ import annotations

import re

from tests.support.gateway import ROOT

PICTURES = ROOT / "docs/pictures"
MOST_BYTES = 1_600_000


def steps() -> list[str]:
    """The names of all steps' pictures, in the order of the walks."""
    found = []
    walks = re.split(r"\bWalk\(", (ROOT / "tests/admin/test_walks.py").read_text())[1:]
    for walk in walks:
        name = re.match(r'chromium, site, "([\w-]+)"', walk)
        assert name
        found += [f"{name[1]}-{number}-{step}" for number, step in enumerate(re.findall(r'step\("([\w-]+)"', walk), 1)]
    return found


def test_the_tour_shows_each_step_in_order():
    shown = re.findall(r'src(?:set)?="pictures/([^"]+)"', (ROOT / "docs/tour.md").read_text())
    assert len(steps()) > 20
    assert shown == [f"{step}{ending}.webp" for step in steps() for ending in ("-dark", "", "-phone")]


def test_each_picture_is_there_and_no_other():
    wanted = {f"{step}{ending}.webp" for step in steps() for ending in ("", "-dark", "-phone")}
    assert {file.name for file in PICTURES.iterdir()} == wanted
    assert sum(file.stat().st_size for file in PICTURES.iterdir()) < MOST_BYTES
