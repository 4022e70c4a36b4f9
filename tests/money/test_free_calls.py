"""Calls that cost nothing: how many a key may make, and what is kept of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from keys.models import Customer, VirtualKey
from messages_api.callers.process_limits import CallerLimits
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import Seen, Upstream, whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    Caller,
    Web,
    ask,
    credentials,
    free_calls,
    issue,
    message,
    post,
    refused,
    wait_until,
)
from usage import tasks
from usage.free_call_counter import WRITE
from usage.models import FreeCalls, LedgerEntry, Limit, Refusal

COUNTING = "/v1/messages/count_tokens"
COUNT = {"model": MODEL, "messages": ask()["messages"]}


def answers(seen: Seen) -> list[bytes]:
    return whole(200, b'{"input_tokens": 3}' if seen.target == COUNTING else message())


def test_a_keys_own_limit_of_requests_bounds_its_free_calls_apart_from_the_others(
    web: Web, alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = answers
    bob = issue(upstream, "bob")
    limit = Limit.objects.create(virtual_key=alice.virtual_key, kind="rpm", rate=1)
    assert post(web, alice.key, COUNT, COUNTING).status_code == 200
    answer = post(web, alice.key, COUNT, COUNTING)
    assert "1 calls that cost nothing a minute" in refused(answer, 429, "rate_limit_error")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
    for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/files", "/v1/messages/batches"):
        refused(CLIENT.get(web.url + path, headers=credentials(alice.key)), 429, "rate_limit_error")
    assert len(upstream.seen) == 1
    assert post(web, alice.key).status_code == 200
    assert post(web, bob.key, COUNT, COUNTING).status_code == 200
    limit.delete_softly()
    # A call to a model reloads the key.
    assert post(web, alice.key).status_code == 200
    assert post(web, alice.key, COUNT, COUNTING).status_code == 200
    assert free_calls(alice.virtual_key, 2) == {("count_tokens", "completed"): 2}
    wait_until(lambda: Refusal.objects.filter(virtual_key=alice.virtual_key, reason="limit").count() == 5)
    assert LedgerEntry.objects.filter(endpoint="messages").count() == LedgerEntry.objects.count()


def test_free_calls_at_once_are_bounded_until_their_answers_are_over(
    web: Web, alice: Caller, upstream: Upstream
) -> None:
    Limit.objects.create(team=alice.team, kind="parallel", rate=1)
    let = threading.Event()
    upstream.answer = [let, *whole(200, b'{"input_tokens": 3}')]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, web, alice.key, COUNT, COUNTING)
        upstream.wait_for(1)
        answer = post(web, alice.key, COUNT, COUNTING)
        assert "wait until one has ended" in refused(answer, 429, "rate_limit_error")
        assert answer.headers["retry-after"] == "1"
        let.set()
        assert first.result().status_code == 200
    assert post(web, alice.key, COUNT, COUNTING).status_code == 200


def test_a_deployment_bounds_every_key(start_web: Callable[..., Web], alice: Caller, upstream: Upstream) -> None:
    web = start_web(free_rpm=12)
    upstream.answer = answers
    said = [post(web, alice.key, COUNT, COUNTING).status_code for _ in range(13)]
    assert said[:10] == [200] * 10
    assert 429 in said
    assert len(upstream.seen) == said.count(200)


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=200),
    st.integers(1, 5),
)
def test_no_minute_sees_more_than_the_rate_and_the_burst(
    rpm: int, steps: list[tuple[float, bool]], parallel: int
) -> None:
    limits, now, passed, open_calls = CallerLimits(), 1000.0, list[float](), list[Callable[[], None]]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("messages_api.callers.process_limits.time.monotonic", lambda: now)
        for pause, leaves in steps:
            now += pause
            try:
                open_calls.append(limits.enter("key", rpm, parallel, "calls"))
                passed.append(now)
            except GatewayError:
                pass
            assert len(open_calls) <= parallel
            if leaves and open_calls:
                open_calls.pop()()
    most = rpm + min(rpm, max(10, rpm // 6))
    assert all(sum(start <= each < start + 60 for each in passed) <= most for start in passed)


def test_callers_that_are_silent_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, now = CallerLimits(), 1000.0
    monkeypatch.setattr("messages_api.callers.process_limits.time.monotonic", lambda: now)
    running = limits.enter("runs", 60, 5, "calls")
    limits.enter("ended", 60, 5, "calls")()
    running()
    now += 60
    limits.enter("new", 60, 5, "calls")
    assert list(limits.paces) == ["new"]


@pytest.mark.django_db
def test_counts_are_added_up_shown_and_forgotten_after_days(client: Client) -> None:
    key = VirtualKey.objects.create(name="alice", customer=Customer.objects.create(name="Acme"))
    row = f'[{{"day": "%s", "virtual_key": {key.pk}, "endpoint": "count_tokens", "status": "completed", "calls": 3}}]'
    today = datetime.now(UTC).date()
    with connection.cursor() as cursor:
        for day in (today, today, today - timedelta(days=91)):
            cursor.execute(WRITE, [row % day])
    tasks.forget_free_calls()
    assert [(found.day, found.calls) for found in FreeCalls.objects.all()] == [(today, 6)]
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(reverse("admin:usage_freecalls_changelist")).content.decode()
    assert "count_tokens" in page
    assert "alice" in page
