"""When the windows of budgets begin and end, asked of the arbiter itself: see tests/support/asked_arbiter.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from keys.models import Customer
from tests.support.asked_arbiter import later
from tests.support.budget_cast import NOVEMBER, budget, window
from tests.support.budget_cast import arbiter_ as arbiter_
from tests.support.budget_cast import cast as cast
from usage.models import Window

pytestmark = pytest.mark.either_server


def test_an_override_replaces_the_amount_for_a_number_of_windows(arbiter_, cast):
    made = budget(1, team=cast.alice.team, period="day")
    made.override(Decimal(2), windows=2, reason="launch", author="ops")
    for day, room in enumerate((2, 2, 1)):
        arbiter_.set_clock(later(NOVEMBER, days=day))
        assert arbiter_.admit(cast.alice, room)[1] == "admitted"
        assert arbiter_.admit(cast.alice, "0.01")[1] == "budget"


def test_an_override_until_a_date_ends_there(arbiter_, cast):
    made = budget(1, team=cast.alice.team)
    made.override(Decimal(2), until=later(NOVEMBER, hours=1), reason="launch", author="ops")
    assert arbiter_.admit(cast.alice, 2)[1] == "admitted"
    arbiter_.set_clock(later(NOVEMBER, hours=1))
    assert arbiter_.admit(cast.alice, "0.01")[1].details["amount"] == "1"
    with pytest.raises(ValidationError, match="a number of windows"):
        made.override(Decimal(2), reason="x", author="y")


def test_a_rolling_window_begins_with_the_first_use_and_the_next_one_with_the_next(arbiter_, cast):
    budget(1, team=cast.alice.team, period="hour", rolling=True)
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    arbiter_.set_clock(later(NOVEMBER, minutes=59))
    assert arbiter_.admit(cast.alice, 1)[1] == "budget"
    arbiter_.set_clock(later(NOVEMBER, minutes=90))
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    arbiter_.set_clock(later(NOVEMBER, minutes=149))
    assert arbiter_.admit(cast.alice, 1)[1] == "budget"


def test_a_call_that_is_refused_begins_no_rolling_window(arbiter_, cast):
    budget(1, team=cast.alice.team, period="hour", rolling=True)
    budget(3, customer=cast.alice.customer, period="day", rolling=True)
    _, verdict = arbiter_.admit(cast.alice, 2)
    assert (verdict, verdict.details["left"]) == ("budget", "1")
    assert not Window.objects.exists()
    arbiter_.set_clock(later(NOVEMBER, minutes=50))
    small, large = arbiter_.ask(cast.alice, 1), arbiter_.ask(cast.alice, 2)
    assert arbiter_.group([large, small]) == ["budget", "admitted"]
    assert {start for _, start in arbiter_.counters()} == {later(NOVEMBER, minutes=50)}
    arbiter_.set_clock(later(NOVEMBER, minutes=61))
    assert arbiter_.admit(cast.alice, 1)[1] == "budget"


def test_a_call_that_is_held_at_nothing_begins_a_rolling_window(arbiter_, cast):
    budget(1, team=cast.alice.team, period="hour", rolling=True)
    call, verdict = arbiter_.admit(cast.alice, 0)
    assert verdict == "admitted"
    arbiter_.settle(call, "0.4")
    assert window() == (Decimal("0.4"), 0)


def test_the_database_refuses_a_time_zone_that_it_does_not_know(cast):
    with pytest.raises(Exception, match="time zone"), transaction.atomic():
        Customer.objects.update(time_zone="Mars/Olympus")
    with pytest.raises(ValidationError, match="IANA"):
        Customer(name="x", time_zone="Mars/Olympus").full_clean()


def test_a_customers_month_ends_at_its_own_midnight(arbiter_, cast):
    Customer.objects.update(time_zone="Europe/Berlin")
    budget(0, customer=cast.alice.customer)
    details = arbiter_.admit(cast.alice)[1].details
    assert details["until"] == "2026-11-30T23:00:00+00:00"
    assert details["time_zone"] == "Europe/Berlin"


def test_a_window_that_has_begun_ends_when_it_was_to_end(arbiter_, cast):
    budget(1, customer=cast.alice.customer, period="day")
    arbiter_.admit(cast.alice, 1)
    Customer.objects.update(time_zone="Asia/Tokyo")
    arbiter_.set_clock(NOVEMBER + timedelta(hours=11))
    assert arbiter_.admit(cast.alice, 1)[1] == "budget"
    arbiter_.set_clock(NOVEMBER + timedelta(hours=12))
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"


def test_a_month_ends_at_new_yorks_midnight_in_the_night_of_a_clock_change(arbiter_, cast):
    # 1 November 2026: the month begins at 00:00 EDT, and at 02:00 clocks are put back to 01:00 EST.
    Customer.objects.update(time_zone="America/New_York")
    budget(1, customer=cast.alice.customer, period="month")
    budget(1, customer=cast.alice.customer, period="day")
    midnight = datetime(2026, 11, 1, 4, tzinfo=UTC)
    arbiter_.set_clock(midnight - timedelta(microseconds=1))
    october, verdict = arbiter_.admit(cast.alice, 1)
    assert verdict == "admitted"
    assert arbiter_.admit(cast.alice, "0.01")[1] == "budget"
    arbiter_.set_clock(midnight)
    november, verdict = arbiter_.admit(cast.alice, "0.6")
    assert verdict == "admitted"
    arbiter_.set_clock(midnight + timedelta(hours=2, minutes=30))  # 01:30 for the second time
    arbiter_.settle(october, "0.9")
    _, verdict = arbiter_.admit(cast.alice, "0.5")
    assert verdict.details["left"] == "0.4"
    arbiter_.settle(november, "0.2")
    arbiter_.set_clock(midnight + timedelta(hours=24, minutes=59))  # still the same day, of 25 hours
    assert arbiter_.admit(cast.alice, "0.81")[1] == "budget"
    arbiter_.set_clock(midnight + timedelta(hours=25))
    _, verdict = arbiter_.admit(cast.alice, "0.81")
    assert verdict.details["until"] == "2026-12-01T05:00:00+00:00"
    counted = {place: spent for place, (spent, _) in arbiter_.counters().items() if spent}
    assert sorted(counted.values()) == [Decimal("0.2"), Decimal("0.2"), Decimal("0.9"), Decimal("0.9")]
