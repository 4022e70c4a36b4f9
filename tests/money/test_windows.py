"""When windows begin and end: by the customer's calendar, across changes of the clock, as Python's calendar has it."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.django_db, pytest.mark.either_server]

PLACES = {name for name in zoneinfo.available_timezones() if "/" in name}
PERIODS = ("minute", "hour", "day", "week", "month", "quarter", "year")
SPANS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


def at(text):
    """A moment, in ISO 8601."""
    return datetime.fromisoformat(text)


def window(period, moment, zone="UTC", month=1, rolling=False):
    """Start and end of the window that the database says a moment is in."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM usage_window_at(%s, %s, %s, %s, %s)", [period, rolling, zone, month, moment])
        return cursor.fetchone()


def zones():
    """The zones of places that the database knows, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor.fetchall()}
    return sorted(known & PLACES)


def changes(zone):
    """The moments in 2024 and 2025 at which the clocks of a zone change, to the minute."""
    place = zoneinfo.ZoneInfo(zone)
    found = []
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    while moment.year < 2026:
        after = moment + timedelta(days=5)
        if moment.astimezone(place).utcoffset() != after.astimezone(place).utcoffset():
            low, high = moment, after
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                if middle.astimezone(place).utcoffset() == low.astimezone(place).utcoffset():
                    low = middle
                else:
                    high = middle
            found.append(high.replace(second=0, microsecond=0))
        moment = after
    return found


def label(period, moment, zone, month):
    """What the calendar on the wall calls the window of a moment."""
    here = moment.astimezone(zoneinfo.ZoneInfo(zone))
    months = here.year * 12 + here.month - month
    return {
        "day": here.date(),
        "week": here.isocalendar()[:2],
        "month": (here.year, here.month),
        "quarter": months // 3,
        "year": months // 12,
    }[period]


def check(period, moment, zone, month):
    """The window has the moment in it, and the calendar's label for it begins and ends where it does."""
    start, until = window(period, moment, zone, month)
    assert start <= moment < until, (period, zone, moment)
    if period in SPANS:
        assert until - start == SPANS[period]
        return
    inside = label(period, moment, zone, month)
    second = timedelta(seconds=1)
    assert label(period, start, zone, month) == inside, (period, zone, moment)
    assert label(period, until - second, zone, month) == inside, (period, zone, moment)
    assert label(period, start - second, zone, month) != inside, (period, zone, moment)
    assert label(period, until, zone, month) != inside, (period, zone, moment)
    assert window(period, start, zone, month) == (start, until)
    assert window(period, until, zone, month)[0] == until


@pytest.mark.parametrize(
    ("period", "start", "until"),
    [
        ("minute", "2026-11-17T12:34:00Z", "2026-11-17T12:35:00Z"),
        ("hour", "2026-11-17T12:00:00Z", "2026-11-17T13:00:00Z"),
        ("day", "2026-11-16T23:00:00Z", "2026-11-17T23:00:00Z"),
        ("week", "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z"),
        ("month", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
        ("quarter", "2026-09-30T22:00:00Z", "2026-12-31T23:00:00Z"),
        ("year", "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z"),
    ],
)
def test_windows_follow_the_calendar_in_the_customers_zone(period, start, until):
    assert window(period, at("2026-11-17T12:34:56Z"), "Europe/Berlin") == (at(start), at(until))


def test_quarters_and_years_begin_with_the_fiscal_years_first_month():
    moment = at("2026-01-15T00:00:00Z")
    assert window("quarter", moment, month=2) == (at("2025-11-01T00:00:00Z"), at("2026-02-01T00:00:00Z"))
    assert window("year", moment, month=4) == (at("2025-04-01T00:00:00Z"), at("2026-04-01T00:00:00Z"))


def test_a_prepaid_window_has_no_end():
    assert window("none", at("2026-01-15T00:00:00Z")) == (at("1970-01-01T00:00:00Z"), None)


def test_a_rolling_day_is_a_day_on_the_wall():
    begun = at("2026-10-31T16:00:00Z")
    assert window("day", begun, "America/New_York", rolling=True) == (begun, at("2026-11-01T17:00:00Z"))
    assert window("hour", begun, "America/New_York", rolling=True) == (begun, at("2026-10-31T17:00:00Z"))


def test_a_midnight_that_comes_twice_begins_the_day_at_its_first_time():
    # Cuba puts its clocks back from 01:00 to 00:00.
    start, until = window("day", at("2026-11-01T05:30:00Z"), "America/Havana")
    assert (start, until) == (at("2026-11-01T04:00:00Z"), at("2026-11-02T05:00:00Z"))


def test_a_midnight_that_never_comes_begins_the_day_when_the_clocks_change():
    # Chile puts its clocks forward from 00:00 to 01:00.
    start, _ = window("day", at("2026-09-06T12:00:00Z"), "America/Santiago")
    assert start == at("2026-09-06T04:00:00Z")


def test_around_every_change_of_the_clock_in_every_zone_days_and_more_are_the_calendars():
    checked = 0
    for zone in zones():
        for change in changes(zone)[-2:]:
            for minutes in (-1, 0, 61):
                for period in ("hour", "day"):
                    check(period, change + timedelta(minutes=minutes), zone, 1)
                    checked += 1
    assert checked > 1000


# Later on, the time zones that the database and Python know may be of different years.
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))


@settings(max_examples=300, derandomize=True)
@given(st.sampled_from(PERIODS), MOMENTS, st.sampled_from(sorted(PLACES)), st.integers(1, 12))
def test_any_window_is_the_calendars(period, moment, zone, month):
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %s)", [zone])
        if cursor.fetchone()[0]:
            check(period, moment, zone, month)
