"""Adaptive weights: provider keys that fail often or are slow get fewer conversations, on every process alike."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from keys import provider_keys
from keys.models import Cooldown, Performance, ProviderKey
from messages_api.relay.routing import plan
from tests.relay.test_routing import make_key, provider_key
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import MODEL, PROVIDER_SECRET, ask, issue, message, post, rows
from usage import performance, tasks
from usage.performance import LEAST, SMALLEST, AttemptStatistics, share, shares

POWERS = [1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16]


def seen(number=1, attempts=100, failures=0, first_byte_ms=200.0, model=MODEL):
    return AttemptStatistics(number, model, attempts, failures, first_byte_ms)


@pytest.mark.parametrize(
    ("failures", "kept"), [(0, 1), (10, 1), (40, 1), (50, 1 / 2), (75, 1 / 4), (88, 1 / 8), (100, 1 / 16)]
)
def test_it_keeps_the_part_that_its_provider_answers_in_halves(failures, kept):
    assert share(seen(failures=failures), None, 1.0) == kept


@pytest.mark.parametrize(("milliseconds", "kept"), [(200, 1), (300, 1), (500, 1), (700, 1 / 2), (1200, 1 / 4)])
def test_it_keeps_less_where_it_is_slower_than_the_fastest(milliseconds, kept):
    told = shares([seen(1), seen(2, first_byte_ms=milliseconds)], {})
    assert told == {(1, MODEL): 1, (2, MODEL): kept}


def test_it_is_compared_with_those_that_serve_the_same_model(served):
    told = shares([seen(1), seen(2, first_byte_ms=9000.0, model="slow-by-nature")], {})
    assert set(told.values()) == {1}


def test_a_few_attempts_say_nothing():
    few = seen(attempts=LEAST - 1, failures=LEAST - 1)
    assert share(few, None, 1.0) == 1
    assert share(few, None, 1 / 4) == 1 / 4


@given(st.sampled_from(POWERS), st.integers(LEAST, 1000), st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 1e6))
def test_it_stays_unless_it_is_off_by_much(before, attempts, failed, mine, fastest):
    each = seen(attempts=attempts, failures=int(attempts * failed), first_byte_ms=max(mine, fastest))
    now = share(each, fastest, before)
    assert now in POWERS
    assert share(each, fastest, now) == now or now == SMALLEST


def test_a_smaller_share_moves_conversations_away_and_no_others():
    one, other = provider_key(1), provider_key(2)
    names = [f"conversation {number}" for number in range(2000)]
    kept: dict[int | None, float] = {1: 1.0}

    def chosen(**members):
        key = make_key((one, 1), (other, 1), **members)
        found = []
        for name in names:
            [[first, *_]] = plan(key, [MODEL], {"anthropic"}, partial(str, name), (), keeps)
            found.append(first.provider_key.id)
        return found

    def keeps(provider_key, model):
        return kept.get(provider_key.id, 1.0)

    before = chosen(adaptive_weights=True)
    kept[1] = 1 / 4
    after = chosen(adaptive_weights=True)
    assert abs(after.count(1) / len(names) - 1 / 5) < 0.05
    assert all(now == 2 or now == then for then, now in zip(before, after, strict=True))
    assert chosen() == before, "its weights don't adapt"


@pytest.fixture
def two(served):
    """Two providers; the first answers every second call with an error."""
    with Upstream() as bad, Upstream() as good:
        bad.answer = lambda _: whole(200, message()) if len(bad.seen) % 2 else whole(503, b"{}")
        good.answer = whole(200, message())
        routes = [
            (provider_keys.add_provider_key(name=name, provider="anthropic", base_url=each.url, secret=secret), 1)
            for name, each, secret in (("bad", bad, PROVIDER_SECRET + "b"), ("good", good, PROVIDER_SECRET + "g"))
        ]
        yield bad, good, routes


def talk(web, caller, count):
    for number in range(count):
        Cooldown.objects.all().delete()
        assert post(web, caller.key, ask(f"Conversation {number}")).status_code == 200


def test_the_results_of_calls_decide_where_the_next_ones_go(web, two):
    bad, _, routes = two
    alice = issue(bad, provider_keys=routes, adaptive_weights=True)
    talk(web, alice, 60)
    first = len(bad.seen)
    rows(60)
    tasks.observe_providers()
    told = {row.provider_key.name: row for row in Performance.objects.all()}
    assert (told["bad"].attempts, told["bad"].share, told["good"].share) == (first, 1 / 2, 1)
    assert abs(told["bad"].failures - first / 2) <= 1
    assert told["good"].failures == 0
    assert told["good"].first_byte_ms is not None
    time.sleep(1.2)  # every process reads them once a second
    talk(web, alice, 60)
    assert len(bad.seen) - first < first
    # Old results, and those of a provider key without calls, are forgotten.
    alice.virtual_key.adaptive_weights = False
    alice.virtual_key.save()
    performance.observe()
    assert not Performance.objects.exists()


def test_a_provider_key_that_is_renamed_keeps_its_history(web, two):
    bad, _, routes = two
    alice = issue(bad, provider_keys=routes, adaptive_weights=True)
    talk(web, alice, 40)
    made = {each["provider_key_id"] for row in rows(40) for each in row.attempts}
    first, second = (route[0] for route in routes)
    assert made == {first.pk, second.pk}
    for each, name in ((first, "spare"), (second, "bad"), (first, "good")):  # they swap their names
        ProviderKey.objects.filter(pk=each.pk).update(name=name)
    performance.observe()
    seen = {row.provider_key_id: row for row in Performance.objects.all()}
    assert (seen[first.pk].attempts, seen[second.pk].failures) == (len(bad.seen), 0)


def test_an_attempt_says_when_its_first_byte_came(web, two):
    bad, _, routes = two
    alice = issue(bad, provider_keys=routes)
    bad.answer = [0.3, *whole(503, b"{}")]
    talk(web, alice, 8)
    attempts = [each for row in rows(8) for each in row.attempts]
    slow = [each["time_to_first_byte_ms"] for each in attempts if each["http_status"] == 503]
    assert slow
    assert min(slow) >= 300
    assert all(each["time_to_first_byte_ms"] <= each["duration_ms"] for each in attempts)


@pytest.mark.django_db
def test_the_admin_shows_how_they_do(client):
    client.force_login(User.objects.create_superuser("alice"))
    key = provider_keys.add_provider_key(name="main", provider="echo")
    terms = {"provider_key": key, "model": MODEL, "failures": 5, "at": "2026-11-17T12:00Z"}
    Performance.objects.create(**terms, attempts=10, first_byte_ms=1234.5, share=0.5)
    shown = client.get(reverse("admin:keys_performance_changelist")).content.decode()
    assert "1,234 ms" in shown
    assert "1/2" in shown
    assert json.dumps(MODEL).strip('"') in shown
