"""Calls that passed while the database was unavailable are admitted afterwards: the SQL function, called directly."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from tests.support.asked_arbiter import later
from tests.support.budget_cast import NOVEMBER, arbiter_, budget, cast
from usage.arbitration import ModelShare, Passed
from usage.models import Hold, LedgerEntry, Window

__all__ = ["arbiter_", "cast"]

pytestmark = pytest.mark.either_server


def admit_late(arbiter, *calls, moment, process=True):
    asked = [Passed(call, moment).asked() for call in calls]
    arbiter.one(
        "SELECT usage_admit_late(%s, %s::jsonb)",
        arbiter.process if process else None,
        msgspec.json.encode(asked).decode(),
    )


def windows():
    return list(Window.objects.order_by("budget_id", "start").values_list("start", "until", "spent", "held"))


def test_a_call_is_charged_to_the_windows_of_the_time_when_it_was_made(arbiter_, cast):
    budget(1, team=cast.alice.team, period="day")
    yesterday, today = NOVEMBER, later(NOVEMBER, days=1)
    arbiter_.set_clock(today)
    call = arbiter_.ask(cast.alice, "0.75")
    admit_late(arbiter_, call, moment=yesterday)
    ((start, until, spent, held),) = windows()
    assert start <= yesterday < until <= today
    assert (spent, held) == (0, Decimal("0.75"))
    assert Hold.objects.get().admitted_at == yesterday
    arbiter_.settle(call, "0.5")
    assert windows() == [(start, until, Decimal("0.5"), 0)]
    assert LedgerEntry.objects.get().admitted_at == yesterday
    arbiter_.counters()


def test_it_may_pass_what_is_left(arbiter_, cast):
    budget(1, team=cast.alice.team)
    arbiter_.admit(cast.alice, "0.75")
    admit_late(arbiter_, *(arbiter_.ask(cast.alice, "0.75") for _ in range(2)), moment=arbiter_.clock)
    assert windows()[0][3] == Decimal("2.25")
    assert arbiter_.admit(cast.alice, "0.01")[1] == "budget"
    arbiter_.counters()


def test_to_admit_again_changes_nothing(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call = arbiter_.ask(cast.alice, "0.75")
    for _ in range(2):
        admit_late(arbiter_, call, moment=arbiter_.clock)
        assert windows()[0][2:] == (0, Decimal("0.75"))
    arbiter_.settle(call, "0.5")
    admit_late(arbiter_, call, moment=arbiter_.clock)
    assert windows()[0][2:] == (Decimal("0.5"), 0)
    assert not Hold.objects.exists()
    arbiter_.counters()


def test_rolling_windows_begin_with_the_first_of_them_and_end_before_later_ones(arbiter_, cast):
    budget(5, team=cast.alice.team, period="day", rolling=True)
    began = arbiter_.clock
    arbiter_.set_clock(later(began, hours=6))
    arbiter_.admit(cast.alice, "0.5")
    first, second = (arbiter_.ask(cast.alice, "0.25") for _ in range(2))
    admit_late(arbiter_, first, moment=began)
    admit_late(arbiter_, second, moment=later(began, hours=1))
    assert windows() == [
        (began, later(began, hours=6), 0, Decimal("0.5")),
        (later(began, hours=6), later(began, hours=30), 0, Decimal("0.5")),
    ]
    arbiter_.counters()


def test_tokens_and_models_and_provider_keys_count_as_ever(arbiter_, cast):
    tokens = budget(10_000, team=cast.alice.team, unit="tokens")
    budget(1, virtual_key=cast.alice, model_patterns=["claude-haiku-*"])
    call = arbiter_.ask(cast.alice, "0.75", input_ceiling=700, max_tokens=300)
    admit_late(arbiter_, call, moment=arbiter_.clock)
    assert list(Window.objects.values_list("budget_id", "held")) == [(tokens.pk, Decimal(1000))]
    arbiter_.counters()


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_budgets_by_model_go_by_the_models_that_it_is_made_with(arbiter_, cast, unit):
    haiku = budget(10_000, team=cast.alice.team, model_patterns=["claude-haiku-*"], unit=unit)
    asked = budget(10_000, team=cast.alice.team, model_patterns=["fast"], unit=unit)
    both = budget(10_000, team=cast.alice.team, model_patterns=["claude-*"], unit=unit, period="day", rolling=True)
    whole = budget(10_000, team=cast.alice.team, unit=unit)
    shares = {"claude-haiku-4-5": ModelShare(Decimal("0.5"), 900), "claude-opus-5-5": ModelShare(Decimal("0.25"), 300)}
    terms = {"requested_model": "fast", "shares": shares, "input_ceiling": 200, "max_tokens": 1000}
    admitted = arbiter_.admit(cast.alice, "0.75", **terms)
    assert admitted[1] == "admitted"
    at_once = dict(Window.objects.values_list("budget_id", "held"))
    arbiter_.group(releases=[admitted[0].id])
    admit_late(arbiter_, arbiter_.ask(cast.alice, "0.75", **terms), moment=later(arbiter_.clock, seconds=1))
    assert dict(Window.objects.filter(held__gt=0).values_list("budget_id", "held")) == at_once
    amounts = {"usd": ("0.5", "0.75", "0.75"), "tokens": ("900", "1200", "1200")}[unit]
    assert at_once == dict(zip((haiku.pk, both.pk, whole.pk), map(Decimal, amounts), strict=True))
    assert asked.pk not in at_once
    arbiter_.counters()


def test_a_free_call_is_charged_to_no_budget(arbiter_, cast):
    budget(1, team=cast.alice.team)
    admit_late(arbiter_, arbiter_.ask(cast.alice, 0, max_tokens=0), moment=arbiter_.clock)
    assert Hold.objects.count() == 1
    assert windows() == []


def test_a_call_whose_process_is_gone_is_kept_until_it_is_ended(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call = arbiter_.ask(cast.alice, "0.75")
    admit_late(arbiter_, call, moment=arbiter_.clock, process=False)
    assert arbiter_.one("SELECT usage_expire()") == 0
    ends = later(arbiter_.clock, seconds=2)
    assert arbiter_.one("SELECT usage_interrupt(ARRAY[%s]::uuid[], ARRAY[%s], 100)", call.id, ends) == 1
    entry = LedgerEntry.objects.get()
    assert (entry.status, entry.output_tokens, entry.ended_at - entry.admitted_at) == (
        "interrupted",
        300,
        timedelta(seconds=2),
    )
    arbiter_.counters()
