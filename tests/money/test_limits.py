"""How fast calls may come, asked of the arbiter itself: see tests/support/asked_arbiter.py."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.asked_arbiter import arbiter, cast_with_credentials, later
from usage.models import Budget, Limit, LimitState

pytestmark = pytest.mark.either_server

START = datetime(2026, 11, 17, 12, tzinfo=UTC)


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice", "bob")


@pytest.fixture
def asked(cast):
    with arbiter() as asked:
        asked.set_clock(START)
        yield asked


def limit(kind, rate, **terms):
    return Limit.objects.create(kind=kind, rate=rate, **terms)


def until_refused(asked, key, **changes):
    """How many calls in a row are admitted, and what is said to the next one."""
    admitted = 0
    while True:
        _, verdict = asked.admit(key, **changes)
        if verdict != "admitted":
            assert verdict == "limit"
            return admitted, verdict.details
        admitted += 1


@pytest.mark.parametrize(
    ("rate", "at_once"), [(1, 1), (7, 7), (10, 10), (11, 10), (60, 10), (65, 10), (66, 11), (100, 16), (600, 100)]
)
def test_of_requests_a_sixth_may_come_at_once_but_ten_at_least_and_never_more_than_a_minutes(
    asked, cast, rate, at_once
):
    limit("rpm", rate, team=cast.alice.team)
    verdicts = asked.group([asked.ask(cast.alice) for _ in range(at_once + 1)])
    assert verdicts == ["admitted"] * at_once + ["limit"]
    assert verdicts[-1].details["burst"] == at_once


@pytest.mark.parametrize("kind", ["input_tpm", "output_tpm"])
@pytest.mark.parametrize(("rate", "at_once"), [(5, 1), (60, 6), (40_000, 4_000)])
def test_of_tokens_a_tenth_may_come_at_once(asked, cast, kind, rate, at_once):
    limit(kind, rate, team=cast.alice.team)
    tokens = {"input_tokens": at_once, "max_tokens": at_once}
    assert asked.admit(cast.alice, **tokens)[1] == "admitted"
    _, verdict = asked.admit(cast.alice, **tokens | {"input_tokens": 1, "max_tokens": 1})
    assert (verdict, verdict.details["burst"]) == ("limit", at_once)


def test_after_a_burst_calls_come_evenly(asked, cast):
    limit("rpm", 60, team=cast.alice.team)
    assert until_refused(asked, cast.alice)[0] == 10
    asked.set_clock(later(START, seconds=0.999))
    assert until_refused(asked, cast.bob)[0] == 0
    asked.set_clock(later(START, seconds=1))
    assert until_refused(asked, cast.bob)[0] == 1


def test_no_minute_sees_more_than_the_rate_and_the_burst(asked, cast):
    limit("rpm", 100, team=cast.alice.team)
    admitted = []
    for tenth in range(0, 1300, 3):
        asked.set_clock(later(START, seconds=tenth / 10))
        admitted += [tenth / 10] * until_refused(asked, cast.alice)[0]
    busiest = max(sum(moment <= other < moment + 60 for other in admitted) for moment in admitted)
    assert 100 <= busiest <= 116


def test_a_refusal_says_when_to_come_again_to_the_second(asked, cast):
    made = limit("rpm", 10, burst=1, team=cast.alice.team)
    _, details = until_refused(asked, cast.alice)
    assert details == {
        "limit": made.pk,
        "owner_kind": "team",
        "owner": "Research",
        "kind": "rpm",
        "rate": 10,
        "burst": 1,
        "needed": "1",
        "left": "0",
        "retry_after": 6,
        "language": "en",
    }
    asked.set_clock(later(START, seconds=5.9))
    assert asked.admit(cast.alice)[1].details["retry_after"] == 1
    asked.set_clock(later(START, seconds=6))
    assert asked.admit(cast.alice)[1] == "admitted"


def test_in_a_group_each_call_takes_its_turn(asked, cast):
    limit("rpm", 3, team=cast.alice.team)
    calls = [asked.ask(key) for key in (cast.alice, cast.bob, cast.alice, cast.bob)]
    assert asked.group(calls) == ["admitted", "admitted", "admitted", "limit"]


def test_a_stated_burst_counts(asked, cast):
    limit("rpm", 60, burst=2, team=cast.alice.team)
    assert until_refused(asked, cast.alice)[0] == 2


def test_calls_at_once_end_with_their_calls(asked, cast):
    limit("parallel", 2, team=cast.alice.team)
    first, _ = asked.admit(cast.alice)
    second, _ = asked.admit(cast.bob)
    assert asked.admit(cast.alice)[1] == "limit"
    asked.settle(first)
    third = asked.ask(cast.alice)
    assert asked.group([third], releases=[second.id]) == ["admitted"]
    asked.admit(cast.bob)
    assert asked.admit(cast.bob)[1] == "limit"
    assert asked.reap() == 2
    assert LimitState.objects.get().running == 0


def test_output_is_reckoned_at_most_and_corrected_when_it_is_settled(asked, cast):
    limit("output_tpm", 10_000, team=cast.alice.team)
    call, verdict = asked.admit(cast.alice, max_tokens=900)
    assert verdict == "admitted"
    _, verdict = asked.admit(cast.alice, max_tokens=900)
    assert (verdict, verdict.details["left"]) == ("limit", "100")
    asked.settle(call, output_tokens=100)
    assert asked.admit(cast.alice, max_tokens=900)[1] == "admitted"


def test_more_than_a_burst_passes_when_the_bucket_is_full_and_is_paid_off_afterwards(asked, cast):
    limit("output_tpm", 6000, team=cast.alice.team)
    _, verdict = asked.admit(cast.alice, max_tokens=3000)
    assert verdict == "admitted"
    _, verdict = asked.admit(cast.alice, max_tokens=100)
    assert verdict.details["retry_after"] == 25
    asked.set_clock(later(START, seconds=25))
    assert asked.admit(cast.alice, max_tokens=100)[1] == "admitted"


def test_input_counts_cache_reads_only_where_it_was_chosen(asked, cast):
    plain = limit("input_tpm", 10_000, team=cast.alice.team)
    cached = limit("input_tpm", 10_000, team=cast.alice.team, count_cached=True)
    call, _ = asked.admit(cast.alice, input_tokens=100)
    asked.settle(call, input_tokens=10, cache_creation_5m_input_tokens=20, cache_read_input_tokens=300)
    full = dict(LimitState.objects.values_list("limit_id", "full_at"))
    assert (full[plain.pk] - START).total_seconds() == pytest.approx(30 * 0.006, abs=1e-5)
    assert (full[cached.pk] - START).total_seconds() == pytest.approx(330 * 0.006, abs=1e-5)


def test_what_lasts_for_days_is_a_request_and_nothing_else(asked, cast):
    limit("parallel", 1, team=cast.alice.team)
    limit("output_tpm", 10, team=cast.alice.team)
    limit("rpm", 2, team=cast.alice.team)
    for _ in range(2):
        assert asked.admit(cast.alice, expires_seconds=86_400)[1] == "admitted"
    assert asked.admit(cast.alice, expires_seconds=86_400)[1].details["kind"] == "rpm"


def test_where_a_limit_refuses_no_budget_is_charged(asked, cast):
    limit("rpm", 1, team=cast.alice.team)
    Budget.objects.create(team=cast.alice.team, amount=10)
    asked.admit(cast.alice, 1)
    before = asked.counters()
    assert asked.admit(cast.alice, 1)[1] == "limit"
    assert asked.counters() == before


def test_where_both_refuse_the_budget_speaks_since_waiting_does_not_help(asked, cast):
    limit("rpm", 1, team=cast.alice.team)
    Budget.objects.create(team=cast.alice.team, amount=1)
    asked.admit(cast.alice, 1)
    assert asked.admit(cast.alice, 1)[1] == "budget"


def test_an_admitted_call_gets_headers_with_what_is_left(asked, cast):
    limit("rpm", 60, team=cast.alice.team)
    _, verdict = asked.admit(cast.alice)
    (standing,) = verdict.details
    assert (standing["kind"], standing["limit"], standing["remaining"]) == ("rpm", 60, 9)
    assert datetime.fromisoformat(standing["reset"]) == later(START, seconds=1)
