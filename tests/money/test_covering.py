"""A range is the sum of its pieces, whichever days and months there are, in every time zone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from usage.covering import GRAINS, QUARTER, Piece, beginning, cover, merged
from usage.questions import Question, boundaries, midnight, of_days

START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"]
quarters = some.integers(0, 96 * 100).map(lambda number: START + number * QUARTER)
stacks = some.sampled_from([GRAINS, ("quarter", "day", "month"), ("quarter", "hour", "day", "month")])


def counted(pieces: list[Piece]) -> Counter[datetime]:
    """How often each quarter of an hour is in the pieces."""
    found: Counter[datetime] = Counter()
    for piece in pieces:
        moment = piece.since
        while moment < piece.until:
            found[moment] += piece.sign
            moment += QUARTER
    return Counter({moment: count for moment, count in found.items() if count})


@given(quarters, quarters, stacks, some.sets(some.integers(0, 100)), some.sets(some.integers(0, 3)))
def test_every_quarter_of_a_range_counts_once_and_no_other(one, other, grains, days, months):
    since, until = sorted((one, other))

    def has(grain: str, start: datetime) -> bool:
        if grain == "month":
            return start.month - 1 in months
        return grain != "day" or (start - START).days not in days

    pieces = merged(cover(since, until, grains, has))
    assert counted(pieces) == counted([Piece("quarter", since, until)])
    for piece in pieces:
        assert piece.since == beginning(piece.since, piece.grain) < piece.until
        assert piece.until == beginning(piece.until, piece.grain)


def test_a_month_in_berlin_is_a_month_with_an_hour_more_and_two_hours_less():
    since, until = of_days(datetime(2026, 3, 1).date(), datetime(2026, 3, 31).date(), ZoneInfo("Europe/Berlin"))
    assert merged(cover(since, until, GRAINS, lambda *_: True)) == [
        Piece("hour", datetime(2026, 3, 31, 22, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), -1),
        Piece("hour", since, datetime(2026, 3, 1, tzinfo=UTC)),
        Piece("month", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
    ]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", ["hour", "day", "week", "month"])
def test_periods_begin_where_calendars_and_clocks_of_the_zone_say_so(zone, every):
    there = ZoneInfo(zone)
    since, until = of_days(datetime(2026, 1, 5).date(), datetime(2026, 12, 31).date(), there)
    periods = Question(since, until, there, every).periods()
    assert [periods[0][0], periods[-1][1]] == [since, until]
    assert all(one[1] == other[0] for one, other in pairwise(periods))
    for start, _ in periods[1:]:
        local = start.astimezone(there)
        assert local.minute == 0
        if every != "hour":
            assert local.hour == 0
        if every == "week":
            assert local.weekday() == 0
        if every == "month":
            assert local.day == 1
    expected = {"day": 361, "week": 52, "month": 12}
    assert every == "hour" or len(periods) == expected[every]


def test_a_day_whose_midnight_does_not_exist_begins_after_the_gap():
    cairo = ZoneInfo("Africa/Cairo")
    assert midnight(datetime(2026, 4, 24).date(), cairo) == datetime(2026, 4, 23, 22, tzinfo=UTC)
    days = list(boundaries(datetime(2026, 4, 22, tzinfo=UTC), datetime(2026, 4, 26, tzinfo=UTC), cairo, "day"))
    assert [day.astimezone(cairo).day for day in days] == [23, 24, 25, 26][: len(days)]


def test_a_range_of_two_hours_is_read_in_hours_and_one_that_is_nearly_a_day_as_a_day():
    assert [p.grain for p in merged(cover(START, START + timedelta(hours=2), GRAINS, lambda *_: True))] == ["hour"]
    pieces = merged(cover(START, START + timedelta(hours=22), ("quarter", "hour", "day"), lambda *_: True))
    assert [(piece.grain, piece.sign) for piece in pieces] == [("day", 1), ("hour", -1)]
