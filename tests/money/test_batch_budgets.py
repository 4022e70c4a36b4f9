"""What budgets make of calls whose costs come line by line, for days: message batches."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from tests.support.asked_arbiter import cast_with_credentials, later, settlement
from tests.support.budget_cast import NOVEMBER, budget
from tests.support.budget_cast import arbiter_ as arbiter_
from usage.arbitration import ModelShare

pytestmark = pytest.mark.either_server

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
# A batch that asks both of them.
BOTH = {"requested_model": "", "shares": {OPUS: ModelShare(Decimal(4), 1000), HAIKU: ModelShare(Decimal(1), 200)}}


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice")


def open_batch(asked, key, ceiling, **changes):
    """A call whose costs come line by line, answered."""
    call, verdict = asked.admit(key, ceiling, expires_seconds=3600, **changes)
    assert verdict == "admitted"
    asked.link.execute("SELECT usage_open(%s::jsonb)", [msgspec.json.encode(settlement(call, 0)).decode()])
    return call


def settle_lines(asked, call, *costs, last=False, model=OPUS):
    """The next lines of it, which this model has answered."""
    lines = []
    for number, cost in enumerate(costs):
        known = msgspec.to_builtins(settlement(call, cost, model=model)) | {
            "part": f"{model} {number} {cost}",
            "id": None,
        }
        lines.append(known | {"ended_at": NOVEMBER.isoformat()})
    encoded = msgspec.json.encode(lines).decode()
    asked.link.execute("SELECT usage_settle_parts(%s, %s::jsonb, %s)", [call.id, encoded, last])


def test_lines_of_a_batch_are_spent_in_the_window_of_its_admission(arbiter_, cast):
    budget(10, team=cast.alice.team)
    budget(10_000, team=cast.alice.team, unit="tokens")
    call = open_batch(arbiter_, cast.alice, 5)
    arbiter_.set_clock(later(NOVEMBER, days=20))
    settle_lines(arbiter_, call, "1.5", "0.5")
    settle_lines(arbiter_, call, "1.5", "0.5")
    assert sorted(arbiter_.counters().values()) == [(Decimal(2), Decimal(3)), (Decimal(200), Decimal(1000))]
    settle_lines(arbiter_, call, "0.25", last=True)
    assert sorted(arbiter_.counters().values()) == [(Decimal("2.25"), 0), (300, 0)]


def test_lines_that_cost_more_than_was_held_are_spent_in_full(arbiter_, cast):
    budget(10, team=cast.alice.team)
    call = open_batch(arbiter_, cast.alice, 1)
    settle_lines(arbiter_, call, "1.5")
    assert list(arbiter_.counters().values()) == [(Decimal("1.5"), 0)]
    settle_lines(arbiter_, call, "0.25", last=True)
    assert list(arbiter_.counters().values()) == [(Decimal("1.75"), 0)]


def test_a_batch_whose_results_were_never_read_costs_what_was_still_held(arbiter_, cast):
    budget(10, team=cast.alice.team)
    call = open_batch(arbiter_, cast.alice, 5)
    settle_lines(arbiter_, call, 2)
    arbiter_.link.execute("UPDATE usage_hold SET expires_at = clock_timestamp() - interval '1 second'")
    assert arbiter_.one("SELECT usage_expire()") == 1
    assert list(arbiter_.counters().values()) == [(Decimal(5), 0)]


def counted(asked, *budgets):
    """Spent and held of the windows of these budgets."""
    found = {budget: both for (budget, _), both in asked.counters().items()}
    return [found[each.pk] for each in budgets]


def test_a_batch_of_several_models_holds_of_each_budget_what_its_models_may_cost(arbiter_, cast):
    everything = budget(10, team=cast.alice.team)
    opus = budget(10, team=cast.alice.team, model_patterns=["claude-opus-*"])
    haiku = budget(10_000, team=cast.alice.team, model_patterns=["x", "*haiku*"], unit="tokens")
    either = budget(10, team=cast.alice.team, model_patterns=["claude-*"])
    budget(0, team=cast.alice.team, model_patterns=["*sonnet*"])
    open_batch(arbiter_, cast.alice, 5, **BOTH)
    assert counted(arbiter_, everything, opus, haiku, either) == [(0, 5), (0, 4), (0, 200), (0, 5)]
    assert len(arbiter_.counters()) == 4


def test_a_batch_of_several_models_is_refused_where_one_of_them_does_not_fit(arbiter_, cast):
    budget("3.99", team=cast.alice.team, model_patterns=["claude-opus-*"])
    verdict = arbiter_.admit(cast.alice, 5, expires_seconds=3600, **BOTH)[1]
    assert (verdict, verdict.details["needed"]) == ("budget", "4")


@pytest.mark.parametrize("answered", [OPUS, f"{OPUS}-20261101", "us.anthropic.Claude-Opus-5-5-20261101-v1:0"])
def test_lines_are_spent_of_the_budgets_of_their_models(arbiter_, cast, answered):
    everything = budget(10, team=cast.alice.team)
    opus = budget(10, team=cast.alice.team, model_patterns=[OPUS])
    haiku = budget(10, team=cast.alice.team, model_patterns=[HAIKU])
    call = open_batch(arbiter_, cast.alice, 5, **BOTH)
    settle_lines(arbiter_, call, "1.5", "0.5", model=answered)
    assert counted(arbiter_, everything, opus, haiku) == [(2, 3), (2, 2), (0, 1)]
    settle_lines(arbiter_, call, "0.25", model=HAIKU, last=True)
    assert counted(arbiter_, everything, opus, haiku) == [(Decimal("2.25"), 0), (2, 0), (Decimal("0.25"), 0)]


@pytest.mark.parametrize("answered", ["", "claude-fable-6"])
def test_a_line_of_an_unknown_model_is_spent_from_all_budgets(arbiter_, cast, answered):
    opus = budget(10, team=cast.alice.team, model_patterns=[OPUS])
    haiku = budget(10, team=cast.alice.team, model_patterns=[HAIKU])
    call = open_batch(arbiter_, cast.alice, 5, **BOTH)
    settle_lines(arbiter_, call, "0.5", model=answered, last=True)
    assert counted(arbiter_, opus, haiku) == [(Decimal("0.5"), 0), (Decimal("0.5"), 0)]


def test_lines_that_may_have_asked_another_model_are_spent_of_its_budgets_too(arbiter_, cast):
    fable = budget(10, team=cast.alice.team, model_patterns=["claude-fable-*"])
    haiku = budget(10, team=cast.alice.team, model_patterns=[HAIKU])
    shares = {OPUS: ModelShare(Decimal(4), 1000, ["claude-fable-5"]), HAIKU: ModelShare(Decimal(1), 200)}
    call = open_batch(arbiter_, cast.alice, 5, **BOTH | {"shares": shares})
    assert counted(arbiter_, fable, haiku) == [(0, 4), (0, 1)]
    settle_lines(arbiter_, call, "1.5", model=OPUS)
    settle_lines(arbiter_, call, "0.5", model=HAIKU, last=True)
    assert counted(arbiter_, fable, haiku) == [(Decimal("1.5"), 0), (Decimal("0.5"), 0)]
