"""Provider keys that are left alone for a while, and calls that wait until it is over."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from keys import cooldowns
from keys.models import Cooldown, ModelList, Performance, ProviderKey
from messages_api import tasks
from messages_api.relay.story import MOST_COOLING
from tests.support.fake_provider import whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    ask,
    credentials,
    issue,
    message,
    post,
    refused,
    rows,
    wait_until,
)
from tests.support.two_providers import HAIKU, failing
from tests.support.two_providers import alice as alice
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second
from usage.models import Writer


def test_the_only_provider_key_is_not_called_while_it_cools_down(web, served, first):
    alice = issue(first)
    first.answer = failing(429, "rate_limit_error", ("retry-after", "60"))
    answer = post(web, alice.key)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    for _ in range(3):
        answer = post(web, alice.key)
        refused(answer, 429, "rate_limit_error")
        assert 55 <= int(answer.headers["retry-after"]) <= 60
    assert len(first.seen) == 1
    rows(1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", [[("retry-after-ms", "700")], []], ids=["told", "untold"])
def test_a_call_under_way_may_get_a_longer_retry_after(web, served, first, said, status):
    alice = issue(first)
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    longer = [0.4, *failing(status, "api_error", ("retry-after", "60"))]
    first.answer = lambda seen: longer if len(first.seen) == 1 else failing(429, "rate_limit_error", *said)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(CLIENT.post, web.url + "/v1/messages", json=ask(), headers=headers)
        wait_until(lambda: first.seen)
        assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 429
        assert slow.result().status_code == status
    [cooldown] = Cooldown.objects.all()
    assert timedelta(seconds=50) < cooldown.until - timezone.now() <= timedelta(seconds=60)
    assert cooldown.strikes == 1


def test_no_other_call_shortens_the_time_that_a_provider_has_named(web, served, first):
    alice = issue(first)
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    answers = iter([[0.4, *whole(200, message())], [0.4, *failing(429, "rate_limit_error")]])
    told = failing(429, "rate_limit_error", ("retry-after", "60"))
    first.answer = lambda seen: next(answers, told)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(CLIENT.post, web.url + "/v1/messages", json=ask(), headers=headers) for _ in range(2)]
        wait_until(lambda: len(first.seen) == 2)
        assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 429
        assert sorted(each.result().status_code for each in slow) == [200, 429]
    [cooldown] = Cooldown.objects.all()
    assert timedelta(seconds=50) < cooldown.until - timezone.now() <= timedelta(seconds=60)


def test_nor_does_who_tries_whether_it_is_well_again(web, served, first):
    alice = issue(first)
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    Cooldown.objects.create(
        provider_key=ProviderKey.objects.get(),
        model=MODEL,
        reason="failing",
        strikes=5,
        since=timezone.now(),
        until=timezone.now(),
    )
    time.sleep(1.2)  # every process reads them once a second
    first.answer = [0.5, *whole(200, message())]
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(CLIENT.post, web.url + "/v1/messages", json=ask(), headers=headers)
        wait_until(lambda: first.seen)
        # Meanwhile a call that was under way on another process gets this answer.
        Cooldown.objects.update(reason="rate_limited", until=timezone.now() + timedelta(seconds=60))
        assert trial.result().status_code == 200
    assert Cooldown.objects.get().until > timezone.now() + timedelta(seconds=50)


@pytest.mark.parametrize("status", [403, 429, 500, 503, 529])
def test_a_failing_model_keeps_no_call_from_other_models(web, alice, first, second, status):
    first.answer = lambda seen: whole(200, message(model=HAIKU)) if HAIKU.encode() in seen.body else failing(status)
    second.answer = whole(200, message())
    while not Cooldown.objects.filter(until__gt=timezone.now()).exists():
        assert post(web, alice.key).status_code == 200
    before = len(first.seen)
    assert post(web, alice.key, ask(model=HAIKU)).json()["model"] == HAIKU
    assert len(first.seen) == before + 1


def test_what_was_long_ago_is_forgotten(web, alice, first):
    cooldown = Cooldown(provider_key=ProviderKey.objects.get(name="first"), reason="failing", strikes=40)
    cooldown.since = cooldown.until = timezone.now() - timedelta(minutes=11)
    cooldown.save()
    tasks.forget_cooldowns()
    assert not Cooldown.objects.exists()


@pytest.mark.parametrize("told", ["9" * 5000, "\u00b2", "soon", "-1", ""])
def test_an_invalid_client_timeout_is_ignored(web, served, first, told):
    first.answer = whole(200, message())
    headers = credentials(issue(first).key) | {"x-stainless-timeout": told.encode("latin-1")}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 200


def test_a_call_that_comes_during_a_cooldown_waits_for_its_end(web, served, first):
    alice = issue(first)
    first.answer = failing(429, "rate_limit_error", ("retry-after", "2"))
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 429
    first.answer = whole(200, message())
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: post(web, alice.key), range(8))} == {200}
    early, *others = first.seen
    assert min(each.arrived for each in others) - early.arrived >= 1.9
    assert len(others) == 8


def test_the_only_provider_key_that_keeps_failing_is_left_alone_and_then_tried_by_one_call(web, served, first):
    alice = issue(first)
    first.answer = failing(500)
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1", "x-stainless-timeout": "1"}
    while not Cooldown.objects.filter(strikes=5).exists():
        assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 500
    refused(CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers), 503, "api_error")
    seen = len(first.seen)
    assert seen > 5
    assert first.last.arrived - first.seen[0].arrived >= 0.9
    first.answer = [0.3, *whole(200, message())]
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: post(web, alice.key), range(8))} == {200}
    tried, *others = first.seen[seen:]
    assert min(each.arrived for each in others) - tried.arrived >= 0.3
    assert not Cooldown.objects.exists()


def test_it_waits_as_long_as_the_providers_say(web, alice, first, second):
    answers = [failing(429, "rate_limit_error", ("retry-after-ms", "700")), whole(200, message())]
    first.answer = lambda seen: answers[len(first.seen) - 1]
    second.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    answer = post(web, alice.key)
    assert answer.status_code == 200
    early, late = first.seen
    assert late.arrived - early.arrived >= 0.7
    assert len(second.seen) == 1


def test_no_call_waits_longer_than_its_client_would(web, alice, first, second):
    for upstream in (first, second):
        upstream.answer = failing(429, "rate_limit_error", ("retry-after", "5"))
    headers = credentials(alice.key) | {"x-stainless-timeout": "6"}
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert (len(first.seen), len(second.seen)) == (1, 1)


@pytest.mark.parametrize("answer", [failing(429, "rate_limit_error", ("retry-after", "600")), failing(529)])
def test_the_outcome_of_counting_tokens_keeps_no_call_from_messages(web, served, first, answer):
    alice = issue(first)
    first.answer = lambda seen: answer if seen.target.endswith("count_tokens") else whole(200, message())
    body = ask()
    body.pop("max_tokens")
    for _ in range(6):
        assert post(web, alice.key, body, "/v1/messages/count_tokens").status_code in (429, 529)
    assert not Cooldown.objects.exists()
    assert post(web, alice.key).status_code == 200


def test_counting_ends_no_cool_down_of_messages(web, served, first):
    alice = issue(first)
    cooldown = Cooldown(provider_key=ProviderKey.objects.get(), model=MODEL, reason="failing", strikes=7)
    cooldown.since = cooldown.until = timezone.now()
    cooldown.save()
    time.sleep(1.2)  # every process reads them once a second
    first.answer = whole(200, b'{"input_tokens": 9}')
    body = ask()
    body.pop("max_tokens")
    assert post(web, alice.key, body, "/v1/messages/count_tokens").json() == {"input_tokens": 9}
    assert Cooldown.objects.get().strikes == 7
    first.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    assert not Cooldown.objects.exists()


def test_no_call_goes_to_a_provider_key_that_cools_down(web, alice, first, second):
    first.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    for _ in range(5):
        assert post(web, alice.key).status_code == 200
    assert len(first.seen) == 1
    # Another model of its is no concern of that.
    first.answer = whole(200, message("another model", model=HAIKU))
    assert "another model" in post(web, alice.key, ask(model=HAIKU)).text


def test_nor_does_any_other_process(start_web, alice, first, second):
    web = start_web(2, retry_attempts=3)
    first.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    assert post(web, alice.key).status_code == 200
    threads = [threading.Thread(target=post, args=(web, alice.key)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(first.seen) == 1
    assert len(second.seen) == 21


def test_a_failing_provider_key_is_tried_by_one_call_at_a_time(web, alice, first, second):
    first.answer = failing(500)
    while not Cooldown.objects.filter(strikes=5).exists():
        post(web, alice.key)
    seen = len(first.seen)
    post(web, alice.key)
    assert len(first.seen) == seen
    Cooldown.objects.update(until=timezone.now())
    time.sleep(1.2)  # every process reads them once a second
    first.answer = [0.5, *whole(200, message("well again"))]
    threads = [threading.Thread(target=post, args=(web, alice.key)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(first.seen) == seen + 1
    assert not Cooldown.objects.exists()
    assert "well again" in post(web, alice.key).text


def test_a_provider_key_that_answers_every_third_call_stays_in_use(web, served, first):
    alice = issue(first)
    first.answer = lambda seen: whole(200, message()) if len(first.seen) % 3 == 0 else failing(500)
    with ThreadPoolExecutor(16) as pool:
        answers = Counter(answer.status_code for answer in pool.map(lambda _: post(web, alice.key), range(200)))
    assert set(answers) <= {200, 500}
    assert answers[200] > 100
    assert not Cooldown.objects.filter(strikes__gte=5).exists()


def test_if_all_cool_down_the_error_says_for_how_long(web, alice, first, second):
    for upstream in (first, second):
        upstream.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    assert post(web, alice.key).status_code == 429
    answer = post(web, alice.key)
    refused(answer, 429, "rate_limit_error")
    assert 590 <= int(answer.headers["retry-after"]) <= 600
    assert (len(first.seen), len(second.seen)) == (1, 1)


def test_a_call_ends_where_the_arbiter_never_stops_to_say_that_it_must_wait(web, served, first):
    alice = issue(first)
    first.answer = whole(200, message())
    now = timezone.now()
    terms = {"provider_key": ProviderKey.objects.get(), "reason": "failing", "since": now}
    Cooldown.objects.create(**terms, model=HAIKU, until=now + timedelta(hours=1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('usage_is_for'::regproc)")
        [before] = cursor.fetchone()
        cursor.execute(
            "CREATE OR REPLACE FUNCTION usage_is_for(p_model text, p_requested_model text, p_shares jsonb)"
            " RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'"
        )
    try:
        groups = Writer.objects.aggregate(asked=Sum("groups"))["asked"]
        refused(post(web, alice.key), 503, "api_error")
        assert Writer.objects.aggregate(asked=Sum("groups"))["asked"] - groups <= MOST_COOLING + 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute(before)
    assert not first.seen


def test_made_up_models_take_no_more_cool_downs_than_a_provider_key_may_have(web, served, first):
    """Each process reads all of them every second."""
    alice = issue(first)
    now = timezone.now()
    first.answer = failing(429, "rate_limit_error", ("retry-after", "60"))
    provider_key = ProviderKey.objects.get()
    shared = {"provider_key": provider_key, "reason": "rate_limited", "strikes": 1, "since": now}
    made_up = [
        Cooldown(model=f"made-up-{number}", until=now + timedelta(seconds=1), **shared)
        for number in range(cooldowns.MOST_MODELS + 50)
    ]
    Cooldown.objects.bulk_create([*made_up, Cooldown(model="", until=now, **shared)])
    time.sleep(1.2)  # every process reads them once a second
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 429
    left = set(Cooldown.objects.values_list("model", flat=True))
    assert len(left) == cooldowns.MOST_MODELS + 1
    assert {"", MODEL} <= left


@pytest.mark.parametrize("known", ["listed", "answered"])
def test_made_up_models_displace_no_cool_down_of_a_real_one(web, served, first, known):
    alice = issue(first)
    now = timezone.now()
    first.answer = failing(429, "rate_limit_error", ("retry-after", "3600"))
    provider_key = ProviderKey.objects.get()
    if known == "listed":
        ModelList.objects.update_or_create(
            provider_key=provider_key, defaults={"listed": [{"type": "model"}, {"id": HAIKU.title()}], "listed_at": now}
        )
    else:
        Performance.objects.create(provider_key=provider_key, model=HAIKU, attempts=9, failures=8, share=1, at=now)
    shared = {"provider_key": provider_key, "reason": "rate_limited", "strikes": 1, "since": now}
    later = now + timedelta(hours=1)
    made_up = [Cooldown(model=f"made-up-{number}", until=later, **shared) for number in range(cooldowns.MOST_MODELS)]
    real = Cooldown(model=HAIKU, until=now + timedelta(minutes=1), **shared)
    Cooldown.objects.bulk_create([*made_up, real])
    time.sleep(1.2)  # every process reads them once a second
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 429
    left = set(Cooldown.objects.values_list("model", flat=True))
    assert len(left) == cooldowns.MOST_MODELS
    assert HAIKU in left
