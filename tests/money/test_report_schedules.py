"""The times at which reports are sent: by the clock of their zone, over ends of months and changes of clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.reporting.ranges import PRESETS, Days
from usage.reporting.schedules import following, is_day, latest

BERLIN = ZoneInfo("Europe/Berlin")
# With changes of clocks by an hour and by half an hour, one at midnight, and without any.
ZONES = ("Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC")
MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("after", "every", "expected"),
    [
        # Clocks go from 2:00 to 3:00 on 29 March 2026, and from 3:00 back to 2:00 on 25 October.
        ("2026-03-28T12:00", "day", "2026-03-29T01:30"),
        ("2026-03-29T12:00", "day", "2026-03-30T00:30"),
        ("2026-10-24T12:00", "day", "2026-10-25T00:30"),
        ("2026-10-25T00:30", "day", "2026-10-26T01:30"),
        ("2026-11-30T01:29", "week", "2026-11-30T01:30"),
        ("2026-11-30T01:30", "week", "2026-12-07T01:30"),
        ("2027-01-31T20:00", "month", "2027-02-01T01:30"),
        ("2027-02-28T20:00", "month", "2027-03-01T01:30"),
        ("2026-12-31T12:00", "month", "2027-01-01T01:30"),
    ],
)
def test_it_is_the_same_time_by_the_clock_also_when_clocks_change(after, every, expected):
    found = following(datetime.fromisoformat(after).replace(tzinfo=UTC), every, time(2, 30), BERLIN)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@given(MOMENTS, st.sampled_from(["day", "week", "month"]), st.times(), st.sampled_from(ZONES))
def test_each_day_of_the_schedule_has_one_time(moment, every, at, zone):
    at, zone = at.replace(second=0, microsecond=0), ZoneInfo(zone)
    found, days = moment, []
    for _ in range(4):
        before, found = found, following(found, every, at, zone)
        assert found > before
        assert latest(found, every, at, zone) == found
        assert latest(found - timedelta(microseconds=1), every, at, zone) <= before or before == moment
        # A time that clocks skip is shown later, maybe on the next day; none is left out.
        days.append(
            (found - timedelta(hours=1)).astimezone(zone).date()
            if found.astimezone(zone).time() != at
            else found.astimezone(zone).date()
        )
    assert days == sorted(set(days))
    assert all(is_day(day, every) for day in days)
    if every == "day":
        assert [later - earlier for earlier, later in pairwise(days)] == [timedelta(days=1)] * 3


@pytest.mark.parametrize(
    ("preset", "today", "first", "last"),
    [
        ("last_month", "2027-03-01", "2027-02-01", "2027-02-28"),
        ("last_month", "2028-03-31", "2028-02-01", "2028-02-29"),
        ("last_month", "2027-01-01", "2026-12-01", "2026-12-31"),
        ("yesterday", "2027-03-01", "2027-02-28", "2027-02-28"),
        ("last_7_days", "2026-11-02", "2026-10-27", "2026-11-02"),
        ("this_month", "2026-11-01", "2026-11-01", "2026-11-01"),
    ],
)
def test_a_range_with_a_name_moves_with_the_day(preset, today, first, last):
    assert PRESETS[preset].days(date.fromisoformat(today)) == Days(date.fromisoformat(first), date.fromisoformat(last))
