"""What `make soak` and `make connections` call growth, or too much."""

from __future__ import annotations

import random

import pytest

from reliability.connections import Scene, Seen
from reliability.crowd import BODIES
from reliability.load import Call
from reliability.soak import Minute, judged, overhead
from reliability.trend import trend
from reliability.watch import Had

QUIET = Had(100, 50)


def minutes(memory=0.0, overhead=0.0):
    """Two hours with these slopes an hour, and some noise."""
    source = random.Random(1)
    return [
        Minute(at / 60, 100, 0, 20 + overhead * at / 60 + source.gauss(0, 1), 200 + memory * at / 60, 50, 0)
        for at in range(1, 121)
    ]


def test_a_line_has_its_slope_and_the_error_of_it():
    exact = trend([(0, 1), (1, 3), (2, 5), (3, 7)])
    assert (exact.slope, exact.error) == (2, 0)
    assert exact.rises(1.9)
    assert not exact.rises(2)
    noisy = trend([(0, 0), (1, 9), (2, 1), (3, 8)])
    assert not noisy.rises(0)


@pytest.mark.parametrize("points", [[(0, 1), (1, 2)], [(1, 1), (1, 2), (1, 3)]])
def test_too_few_points_have_no_trend(points):
    with pytest.raises(ValueError, match="points"):
        trend(points)


def test_a_quiet_run_passes():
    assert judged(minutes(), QUIET, QUIET, 0)[1] == []


def test_memory_that_grows_is_found():
    assert judged(minutes(memory=10), QUIET, QUIET, 0)[1] == ["memory grows: +10.00 ± 0.00 MB an hour"]


def test_overhead_that_grows_is_found():
    (fault,) = judged(minutes(overhead=30), QUIET, QUIET, 0)[1]
    assert fault.startswith("the overhead grows: +")


def test_files_and_holds_that_are_left_are_found():
    found = judged(minutes(), QUIET, Had(100, 150), 2)[1]
    assert found == ["100 open files are left", "2 holds are left"]


def test_overhead_is_what_the_client_waited_without_the_provider():
    calls = [Call("a-1", "json", 0, 0.5, "200"), Call("a-2", "hangup", 0, 9.0, "left")]
    assert overhead(calls, {"a-1": 0.4, "a-2": 0.1}) == pytest.approx(100)


def test_a_crowd_that_costs_too_much_is_found():
    scene = Scene("a crowd", BODIES, True, 200, 100.0)
    kept = Seen(scene, "", 200, {"200": 10}, 10, 20, 30, 90)
    assert kept.faults == []
    broken = Seen(scene, "", 200, {"200": 9, "503": 1}, 10, 20, 16_000, 110)
    assert broken.faults == [
        "memory passed its cap of 100 MB",
        "calls of the paying customer failed",
        "a call of the paying customer took more than 15 s",
    ]
