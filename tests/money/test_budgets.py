"""What budgets let pass and refuse, asked of the arbiter itself: see tests/support/asked_arbiter.py."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from keys.models import ProviderKey, Team, VirtualKey
from tests.support.asked_arbiter import later, settlement
from tests.support.budget_cast import NOVEMBER, budget, window
from tests.support.budget_cast import arbiter_ as arbiter_
from tests.support.budget_cast import cast as cast
from usage.models import Alert, Budget, LedgerEntry, Retained, Window

pytestmark = pytest.mark.either_server


def test_a_call_without_a_budget_is_charged_nowhere(arbiter_, cast):
    call, verdict = arbiter_.admit(cast.alice)
    assert verdict == "admitted"
    arbiter_.settle(call)
    assert not Window.objects.exists()
    assert arbiter_.one("SELECT charges IS NULL FROM usage_ledgerentry")


@pytest.mark.parametrize("owner", ["customer", "team", "virtual_key"])
def test_a_budget_holds_the_ceiling_and_settles_the_cost(arbiter_, cast, owner):
    owners = {"customer": cast.alice.customer, "team": cast.alice.team, "virtual_key": cast.alice}
    budget(**{owner: owners[owner]})
    call, verdict = arbiter_.admit(cast.alice, "0.25")
    assert verdict == "admitted"
    assert window() == (0, Decimal("0.25"))
    arbiter_.settle(call, "0.002")
    assert window() == (Decimal("0.002"), 0)
    arbiter_.counters()
    assert LedgerEntry.objects.get().held == Decimal("0.25")


def test_terms_that_do_not_fit_are_refused_with_a_reason(arbiter_, cast):
    made = budget("1.00", team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, "0.40")
    arbiter_.settle(call, "0.30")
    arbiter_.admit(cast.alice, "0.39")
    _, verdict = arbiter_.admit(cast.bob, "0.310000000001")
    assert verdict == "budget"
    assert verdict.details == {
        "budget": made.pk,
        "owner_kind": "team",
        "owner": "Research",
        "unit": "usd",
        "period": "month",
        "enforcement": "hard",
        "amount": "1",
        "spent": "0.3",
        "held": "0.39",
        "needed": "0.310000000001",
        "left": "0.31",
        "until": "2026-12-01T00:00:00+00:00",
        "time_zone": "UTC",
        "language": "en",
    }
    assert arbiter_.admit(cast.bob, "0.31")[1] == "admitted"
    assert window() == (Decimal("0.30"), Decimal("0.70"))


def test_all_budgets_must_allow_and_one_refusal_holds_nothing_anywhere(arbiter_, cast):
    budget(10, customer=cast.alice.customer)
    tight = budget(1, team=cast.alice.team)
    budget(5, virtual_key=cast.alice)
    _, verdict = arbiter_.admit(cast.alice, 2)
    assert verdict == "budget"
    assert verdict.details["budget"] == tight.pk
    assert {held for _, held in arbiter_.counters().values()} == {0}


def test_a_group_is_served_in_order_and_a_smaller_call_may_still_pass(arbiter_, cast):
    budget(1, team=cast.alice.team)
    calls = [arbiter_.ask(cast.alice, ceiling) for ceiling in ("0.5", "0.6", "0.3", "0.3", "0.2")]
    assert arbiter_.group(calls) == ["admitted", "budget", "admitted", "budget", "admitted"]
    assert window() == (0, 1)


def test_settlements_make_room_for_admissions_of_their_group(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, 1)
    other = arbiter_.ask(cast.bob, "0.9")
    assert arbiter_.group([other], [settlement(call, "0.1")]) == ["admitted"]
    assert window() == (Decimal("0.1"), Decimal("0.9"))
    third = arbiter_.ask(cast.bob, "0.9")
    assert arbiter_.group([third], releases=[other.id]) == ["admitted"]
    assert window() == (Decimal("0.1"), Decimal("0.9"))


def test_settling_again_changes_no_counter(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice)
    arbiter_.settle(call, "0.1")
    arbiter_.settle(call, "0.2")
    assert window() == (Decimal("0.1"), 0)


def test_an_overrun_is_settled_in_full(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, 1)
    arbiter_.settle(call, "1.5")
    assert window() == (Decimal("1.5"), 0)
    _, verdict = arbiter_.admit(cast.alice, "0.01")
    assert verdict.details["left"] == "-0.5"


def test_free_endpoints_pass_a_budget_that_is_spent(arbiter_, cast):
    budget(0, team=cast.alice.team)
    assert arbiter_.admit(cast.alice, "0.01")[1] == "budget"
    assert arbiter_.admit(cast.alice, 0, max_tokens=0)[1] == "admitted"
    assert arbiter_.admit(cast.alice, 0, hold=False)[1] == "admitted"


def test_a_budget_for_models_counts_only_these(arbiter_, cast):
    budget(0, team=cast.alice.team, model_patterns=["claude-opus-*", "gpt_5"])
    assert arbiter_.admit(cast.alice)[1] == "budget"
    assert arbiter_.admit(cast.alice, requested_model="gpt_5")[1] == "budget"
    assert arbiter_.admit(cast.alice, requested_model="gpt-5")[1] == "admitted"
    assert arbiter_.admit(cast.alice, requested_model="Claude-opus-5-5")[1] == "budget"


def test_a_budget_for_a_provider_key_within_a_virtual_key_counts_only_its_calls(arbiter_, cast):
    other = ProviderKey.objects.create(name="other", provider="anthropic")
    budget(0, virtual_key=cast.alice, provider_key=cast.provider_key)
    assert arbiter_.admit(cast.alice, provider_key=cast.provider_key.pk)[1] == "budget"
    assert arbiter_.admit(cast.alice, provider_key=other.pk)[1] == "admitted"
    assert arbiter_.admit(cast.bob, provider_key=cast.provider_key.pk)[1] == "admitted"


def test_several_budgets_of_one_owner_all_count(arbiter_, cast):
    day = budget(1, team=cast.alice.team, period="day")
    budget(3, team=cast.alice.team, period="month")
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    assert arbiter_.admit(cast.alice, 1)[1].details["budget"] == day.pk
    arbiter_.set_clock(later(NOVEMBER, days=1))
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    arbiter_.set_clock(later(NOVEMBER, days=2))
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    arbiter_.set_clock(later(NOVEMBER, days=3))
    assert arbiter_.admit(cast.alice, 1)[1].details["period"] == "month"


def test_a_call_belongs_to_the_window_in_which_it_was_admitted(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, 1)
    arbiter_.set_clock(datetime(2026, 12, 1, tzinfo=UTC))
    other, verdict = arbiter_.admit(cast.alice, 1)
    assert verdict == "admitted"
    arbiter_.settle(call, "0.5")
    arbiter_.settle(other, "0.25")
    assert list(Window.objects.order_by("start").values_list("spent", "held")) == [
        (Decimal("0.5"), Decimal(0)),
        (Decimal("0.25"), Decimal(0)),
    ]
    arbiter_.counters()


def test_tokens_are_counted_as_tokens(arbiter_, cast):
    budget(2000, team=cast.alice.team, unit="tokens")
    call, _ = arbiter_.admit(cast.alice, 5, input_ceiling=500, max_tokens=1000)
    assert window() == (0, 1500)
    _, verdict = arbiter_.admit(cast.alice, 5, input_ceiling=500, max_tokens=1000)
    assert (verdict.details["unit"], verdict.details["needed"], verdict.details["left"]) == ("tokens", "1500", "500")
    arbiter_.settle(
        call,
        5,
        input_tokens=10,
        output_tokens=20,
        cache_read_input_tokens=30,
        cache_creation_5m_input_tokens=40,
        cache_creation_1h_input_tokens=50,
    )
    assert window() == (150, 0)


def test_the_amount_may_change_at_any_time(arbiter_, cast):
    made = budget(1, team=cast.alice.team)
    arbiter_.admit(cast.alice, 1)
    Budget.objects.update(amount=2)
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    Budget.objects.update(amount=1)
    assert arbiter_.admit(cast.alice, "0.01")[1].details["left"] == "-1"
    made.delete_softly()
    assert arbiter_.admit(cast.alice, 5)[1] == "admitted"
    assert window() == (0, 2)


def test_what_was_charged_to_a_deleted_budget_goes_on_settling_in_it(arbiter_, cast):
    made = budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, 1)
    made.delete_softly()
    arbiter_.settle(call, "0.5")
    assert window() == (Decimal("0.5"), 0)


def test_what_a_budget_counts_stays_what_it_was(cast):
    made = budget(1, team=cast.alice.team)
    for change in ({"unit": "tokens"}, {"period": "day"}, {"rolling": True}, {"team": None, "virtual_key": cast.alice}):
        with pytest.raises(IntegrityError, match="stay as they are"), transaction.atomic():
            Budget.objects.filter(pk=made.pk).update(**change)


def test_a_budget_belongs_to_exactly_one(cast):
    for owners in ({}, {"team": cast.alice.team, "virtual_key": cast.alice}):
        with pytest.raises(IntegrityError), transaction.atomic():
            budget(1, **owners)
    with pytest.raises(IntegrityError), transaction.atomic():
        budget(1, team=cast.alice.team, provider_key=cast.provider_key)


def test_a_key_that_moves_is_charged_where_it_was_admitted(arbiter_, cast):
    other = Team.objects.create(customer=cast.alice.customer, name="Sales")
    first, second = budget(1, team=cast.alice.team), budget(1, team=other)
    call, _ = arbiter_.admit(cast.alice, 1)
    VirtualKey.objects.filter(pk=cast.alice.pk).update(team=other)
    assert arbiter_.admit(cast.alice, 1)[1] == "admitted"
    arbiter_.settle(call, "0.25")
    assert {b: counted for (b, _), counted in arbiter_.counters().items()} == {
        first.pk: (Decimal("0.25"), 0),
        second.pk: (0, 1),
    }


def test_a_prepaid_balance_is_the_sum_of_its_top_ups_and_never_resets(arbiter_, cast):
    made = budget(0, team=cast.alice.team, period="none")
    assert arbiter_.admit(cast.alice, 1)[1] == "budget"
    made.top_up(Decimal(5), reason="invoice 7", author="finance")
    made.top_up(Decimal("-2"), reason="typing error", author="finance")
    assert made.amount == 3
    call, verdict = arbiter_.admit(cast.alice, 3)
    assert verdict == "admitted"
    arbiter_.settle(call, 3)
    arbiter_.set_clock(later(NOVEMBER, days=4000))
    _, verdict = arbiter_.admit(cast.alice, 1)
    assert (verdict, verdict.details["left"], verdict.details["until"]) == ("budget", "0", None)


def test_only_a_prepaid_budget_is_topped_up_and_with_a_reason(cast):
    with pytest.raises(ValidationError, match="only a prepaid budget"):
        budget(1, team=cast.alice.team).top_up(Decimal(1), reason="x", author="y")
    with pytest.raises(ValidationError):
        budget(0, team=cast.alice.team, period="none").top_up(Decimal(1), reason="", author="y")


def test_tokens_come_whole(cast):
    daily = budget(1000, team=cast.alice.team, period="day", unit="tokens")
    with pytest.raises(ValidationError, match="whole"):
        daily.override(Decimal("2000.5"), windows=1, reason="launch", author="ops")
    with pytest.raises(ValidationError, match="whole"):
        budget(0, team=cast.alice.team, period="none", unit="tokens").top_up(Decimal("0.5"), reason="x", author="y")
    with pytest.raises(ValidationError, match="whole"):
        Budget(amount=Decimal("1.5"), team=cast.alice.team, unit="tokens").full_clean()
    daily.override(Decimal("2000.00"), windows=1, reason="launch", author="ops")


def test_a_soft_budget_lets_pass_and_notes_each_threshold_once(arbiter_, cast):
    budget(1, team=cast.alice.team, enforcement="soft", thresholds=[50, 80, 100])
    for cost, passed in (("0.4", []), ("0.2", [50]), ("0.1", [50]), ("0.9", [50, 80, 100]), ("1", [50, 80, 100])):
        call, verdict = arbiter_.admit(cast.alice, 2)
        assert verdict == "admitted"
        arbiter_.settle(call, cost)
        assert list(Alert.objects.order_by("threshold").values_list("threshold", flat=True)) == passed
    arbiter_.set_clock(later(NOVEMBER, days=30))
    call, _ = arbiter_.admit(cast.alice, 2)
    arbiter_.settle(call, "0.5")
    assert Alert.objects.filter(threshold=50).count() == 2


def test_an_expected_budget_holds_what_such_calls_have_cost_lately(arbiter_, cast):
    budget(10, team=cast.alice.team, enforcement="expected")
    for _ in range(5):
        call, verdict = arbiter_.admit(cast.alice, 9)
        assert (verdict, window()[1]) == ("admitted", 9)
        arbiter_.settle(call, "0.1")
    calls = [arbiter_.ask(cast.alice, 9) for _ in range(3)]
    assert set(arbiter_.group(calls)) == {"admitted"}
    assert window() == (Decimal("0.5"), Decimal("0.3"))
    _, verdict = arbiter_.admit(cast.alice, 9, requested_model="claude-haiku-5-5")
    assert window()[1] == Decimal("9.3")


def test_a_call_whose_process_died_keeps_its_ceiling_until_it_is_given_back(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, "0.75")
    assert arbiter_.reap() == 1
    spent, held = window()
    assert spent == LedgerEntry.objects.get().cost > 0
    assert spent + held == Decimal("0.75")
    arbiter_.counters()
    assert arbiter_.one("SELECT usage_give_back(NULL, '1 hour')") == 0
    assert arbiter_.one("SELECT usage_give_back(ARRAY[%s]::uuid[], NULL)", call.id) == 1
    assert window() == (spent, 0)
    assert not Retained.objects.exists()


def test_a_late_settlement_moves_the_counters_of_the_original_window(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, "0.75")
    arbiter_.reap()
    arbiter_.set_clock(later(NOVEMBER, days=30))
    arbiter_.settle(call, "0.5")
    assert window() == (Decimal("0.5"), 0)
    arbiter_.settle(call, "0.5")
    assert window() == (Decimal("0.5"), 0)
    arbiter_.counters()
    assert not Retained.objects.exists()


def test_a_correction_moves_the_counters_too(arbiter_, cast):
    budget(1, team=cast.alice.team)
    call, _ = arbiter_.admit(cast.alice, "0.75")
    arbiter_.settle(call, "0.5")
    arbiter_.link.execute(
        "INSERT INTO usage_adjustment (entry_id, reason, author, detail, input_tokens, output_tokens, thinking_tokens,"
        " cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,"
        " web_search_requests, cost) VALUES (%s, 'correction', 'finance', '{}', 0, 0, 0, 0, 0, 0, 0, -0.2)",
        [call.id],
    )
    assert window() == (Decimal("0.3"), 0)
    arbiter_.counters()
