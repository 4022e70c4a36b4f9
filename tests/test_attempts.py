"""Calls that may go to several places: what is tried again where, what the caller gets, and what the ledger says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from keys import cooldowns, issuing, provider_keys
from keys.models import Cooldown, Customer, ModelAlias, ProviderKey, Team, VirtualKey, VirtualKeyRoute
from messages_api import tasks
from messages_api.providers.anthropic import spent
from messages_api.relay import MOST_COOLING
from tests.gateway import (
    CLIENT,
    MODEL,
    PROVIDER_SECRET,
    Caller,
    ask,
    credentials,
    events,
    issue,
    message,
    post,
    refused,
    rows,
    wait_until,
)
from tests.upstream import End, Upstream, broken, pieces, whole
from usage import verification
from usage.budgets import Budget, Window
from usage.models import Writer

HAIKU = "claude-haiku-4-5"
LISTED = b'{"data": []}'
# claude-opus-5-5 costs $4 and $20 for a million tokens.
COST = (Decimal(4) * 11 + Decimal(20) * 7).scaleb(-6)


def failing(status, kind="overloaded_error", *headers):
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"as it is, {status}"}}).encode()
    return whole(status, body, ("request-id", f"req_up_{status}"), *headers)


@pytest.fixture
def second():
    with Upstream() as upstream:
        upstream.answer = whole(200, message("from the second"))
        yield upstream


@pytest.fixture
def first(upstream):
    return upstream


def provider_key(name, upstream, **members):
    made = provider_keys.add_provider_key(
        name=name, provider="anthropic", base_url=upstream.url, secret=PROVIDER_SECRET + name
    )
    ProviderKey.objects.filter(pk=made.pk).update(**members)
    made.refresh_from_db()
    return made


@pytest.fixture
def alice(served, first, second):
    """Her calls go to the first provider key, and to the second where that can't answer."""
    return issue(first, provider_keys=[(provider_key("first", first), 1_000_000), (provider_key("second", second), 1)])


def another(caller, name, customer="", team=""):
    """Somebody else, whose calls go where this caller's go: of the same team, or of another one or another customer."""
    of = Customer.objects.get_or_create(name=customer)[0] if customer else caller.team.customer
    within = Team.objects.get_or_create(customer=of, name=team)[0] if team else None if customer else caller.team
    routes = VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key).select_related("provider_key")
    virtual_key, plain = issuing.issue_virtual_key(
        name=name,
        customer=of,
        team=within,
        provider_keys=[(route.provider_key, route.weight) for route in routes],
    )
    return Caller(virtual_key, plain, caller.provider_key)


@contextlib.contextmanager
def nobody_there():
    """An address at which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# What is tried again


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_what_may_pass_is_tried_on_the_next_provider_key(web, alice, first, second, status):
    first.answer = failing(status)
    answer = post(web, alice.key)
    assert answer.status_code == 200
    assert answer.json()["content"][0]["text"] == "from the second"
    assert (len(first.seen), len(second.seen)) == (1, 1)
    assert first.last.body == second.last.body
    assert (answer.headers["x-bf-provider"], answer.headers["x-bf-model"], answer.headers["x-bf-attempts"]) == (
        "anthropic",
        MODEL,
        "2",
    )
    [row] = rows(1)
    assert (row.status, row.cost, row.http_status) == ("completed", COST, 200)
    assert row.provider_key_id == second_of(alice).pk
    one, other = row.attempts
    assert (one["provider_key"], one["http_status"], one["error_type"], one["cost"]) == (
        "first",
        status,
        "overloaded_error",
        "0",
    )
    assert (other["provider_key"], other["http_status"], other["output_tokens"]) == ("second", 200, 7)
    assert Decimal(other["cost"]) == COST


def second_of(caller):
    return caller.virtual_key.provider_keys.get(name="second")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_another_provider_key_would_refuse_likewise_is_the_answer(web, alice, first, second, status):
    first.answer = failing(status, "invalid_request_error")
    answer = post(web, alice.key)
    assert (answer.status_code, answer.headers["request-id"]) == (status, f"req_up_{status}")
    assert not second.seen


def test_a_provider_that_nobody_reaches_costs_nothing_and_another_answers(web, served, first, second):
    with nobody_there() as url:
        gone = provider_keys.add_provider_key(name="gone", provider="anthropic", base_url=url, secret=PROVIDER_SECRET)
        alice = issue(first, provider_keys=[(gone, 1_000_000), (provider_key("second", second), 1)])
        assert post(web, alice.key).status_code == 200
    [row] = rows(1)
    assert [(each["provider_key"], each["error_type"], each["cost"]) for each in row.attempts] == [
        ("gone", "not_connected", "0"),
        ("second", "", f"{row.cost.normalize():f}"),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_where_all_fail_the_first_error_is_the_answer_as_it_came(web, alice, first, second, stream):
    first.answer, second.answer = failing(529), failing(500, "api_error")
    answer = post(web, alice.key, ask(stream=stream))
    assert (answer.status_code, answer.headers["request-id"]) == (529, "req_up_529")
    assert answer.json()["error"] == {"type": "overloaded_error", "message": "as it is, 529"}
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-bf-attempts"] == "3"
    [row] = rows(1)
    assert (row.status, row.http_status, row.provider_request_id) == ("refused_by_provider", 529, "req_up_529")
    assert row.cost == 0
    assert [each["http_status"] for each in row.attempts] == [529, 500, 529]


def test_a_client_that_tries_again_by_itself_gets_one_attempt(web, alice, first, second):
    first.answer = failing(529)
    headers = credentials(alice.key) | {"x-stainless-retry-count": "1"}
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers)
    assert answer.status_code == 529
    assert not second.seen
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_the_only_provider_key_is_tried_again_after_a_pause(web, served, first, status):
    alice = issue(first)
    answers = [failing(status), failing(status), whole(200, message("at last"))]
    first.answer = lambda seen: answers[len(first.seen) - 1]
    answer = post(web, alice.key)
    assert (answer.json()["content"][0]["text"], answer.headers["x-bf-attempts"]) == ("at last", "3")
    [row] = rows(1)
    assert [each["http_status"] for each in row.attempts] == [status, status, 200]
    assert row.cost == COST
    assert not Cooldown.objects.exists()


def test_the_only_provider_key_that_nobody_reaches_is_tried_again(web, served, first):
    with nobody_there() as url:
        gone = provider_keys.add_provider_key(name="gone", provider="anthropic", base_url=url, secret=PROVIDER_SECRET)
        answer = post(web, issue(first, provider_keys=[(gone, 1)]).key)
    refused(answer, 502, "api_error")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-bf-attempts"] == "3"
    [row] = rows(1)
    assert [(each["error_type"], each["cost"]) for each in row.attempts] == [("not_connected", "0")] * 3


def test_a_pause_is_no_part_of_an_attempt(web, served, first):
    alice = issue(first)
    answers = [failing(429, "rate_limit_error", ("retry-after-ms", "900")), whole(200, message())]
    first.answer = lambda seen: answers[len(first.seen) - 1]
    assert post(web, alice.key).status_code == 200
    [row] = rows(1)
    assert all(each["duration_ms"] < 500 for each in row.attempts)
    assert row.duration_ms >= 900


def test_a_caller_who_leaves_between_two_attempts_pays_for_none(web, served, first):
    alice = issue(first)
    first.answer = failing(429, "rate_limit_error", ("retry-after", "9"))
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.post(web.url + "/v1/messages", json=ask(), headers=credentials(alice.key), timeout=0.5)
    [row] = rows(1)
    assert (row.status, row.cost) == ("client_disconnected", Decimal(0))
    assert [each["http_status"] for each in row.attempts] == [429]


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
def test_a_call_under_way_may_be_told_to_wait_longer(web, served, first, said, status):
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


def test_nobody_else_shortens_the_time_that_a_provider_has_named(web, served, first):
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
        # Meanwhile a call that was under way on another process hears this.
        Cooldown.objects.update(reason="rate_limited", until=timezone.now() + timedelta(seconds=60))
        assert trial.result().status_code == 200
    assert Cooldown.objects.get().until > timezone.now() + timedelta(seconds=50)


@pytest.mark.parametrize("status", [403, 429, 500, 503, 529])
def test_what_one_model_comes_to_keeps_nobody_from_another(web, alice, first, second, status):
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
def test_a_patience_that_is_none_does_no_harm(web, served, first, told):
    first.answer = whole(200, message())
    headers = credentials(issue(first).key) | {"x-stainless-timeout": told.encode("latin-1")}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == 200


def test_who_comes_while_it_cools_down_waits_for_it(web, served, first):
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


def test_nobody_waits_longer_than_the_client_would(web, alice, first, second):
    for upstream in (first, second):
        upstream.answer = failing(429, "rate_limit_error", ("retry-after", "5"))
    headers = credentials(alice.key) | {"x-stainless-timeout": "6"}
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert (len(first.seen), len(second.seen)) == (1, 1)


# What was sent and never answered


def test_what_was_sent_and_reset_is_not_sent_again(web, alice, first, second):
    first.answer = [End.RESET]
    refused(post(web, alice.key), 502, "api_error")
    assert not second.seen
    [row] = rows(1)
    assert (row.status, row.estimated) == ("failed", True)
    assert row.cost > 0


def test_but_where_its_provider_key_says_so_and_then_it_costs_its_ceiling(web, alice, first, second):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True)
    first.answer = [End.RESET]
    assert post(web, alice.key).status_code == 200
    [row] = rows(1)
    one, other = (Decimal(each["cost"]) for each in row.attempts)
    assert other == COST
    # 64 tokens of output at least, and the input.
    assert one > Decimal(20).scaleb(-6) * 64
    assert row.cost == one + other
    assert row.estimated


@pytest.mark.parametrize("garbage", [b"no JSON", b'{"type": "message", "content": [{"ty'])
def test_half_an_answer_is_made_anew_where_its_provider_key_says_so(web, alice, first, second, garbage):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True)
    first.answer = whole(200, garbage)
    assert post(web, alice.key).json()["content"][0]["text"] == "from the second"
    [row] = rows(1)
    assert [each["error_type"] for each in row.attempts] == ["bad_answer", ""]
    assert row.cost == sum(Decimal(each["cost"]) for each in row.attempts) > COST


def test_an_answer_that_breaks_off_is_made_anew_where_its_provider_key_says_so(web, alice, first, second):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True)
    first.answer = [whole(200, message())[0][:-9], End.CLOSE]
    assert post(web, alice.key).json()["content"][0]["text"] == "from the second"
    [row] = rows(1)
    assert [each["error_type"] for each in row.attempts] == ["broken_off", ""]


def test_counting_costs_nothing_and_so_is_always_made_anew(web, alice, first, second):
    first.answer = [End.RESET]
    second.answer = whole(200, b'{"input_tokens": 9}')
    body = {"model": MODEL, "messages": ask()["messages"]}
    assert post(web, alice.key, body, "/v1/messages/count_tokens").json() == {"input_tokens": 9}


@pytest.mark.parametrize("answer", [failing(429, "rate_limit_error", ("retry-after", "600")), failing(529)])
def test_what_counting_comes_to_keeps_nobody_from_messages(web, served, first, answer):
    alice = issue(first)
    first.answer = lambda seen: answer if seen.target.endswith("count_tokens") else whole(200, message())
    body = ask()
    body.pop("max_tokens")
    for _ in range(6):
        assert post(web, alice.key, body, "/v1/messages/count_tokens").status_code in (429, 529)
    assert not Cooldown.objects.exists()
    assert post(web, alice.key).status_code == 200


def test_counting_is_not_tried_again_where_its_provider_says_when(web, alice, first, second):
    first.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    second.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    body = ask()
    body.pop("max_tokens")
    answer = post(web, alice.key, body, "/v1/messages/count_tokens")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "600")
    assert (len(first.seen), len(second.seen)) == (1, 1)


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


def test_a_provider_key_may_take_no_longer_than_it_says_in_all(web, alice, first, second):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True, total_seconds=0.5)
    first.answer = [piece for byte in whole(200, message())[0] for piece in (bytes([byte]), 0.1)]
    assert post(web, alice.key).json()["content"][0]["text"] == "from the second"
    [row] = rows(1)
    assert row.attempts[0]["error_type"] == "no_answer_in_time"
    assert 500 <= row.attempts[0]["duration_ms"] < 3000


# Streams


def test_a_stream_that_is_silent_before_its_first_block_is_begun_elsewhere(web, alice, first, second):
    ProviderKey.objects.filter(name="first").update(between_bytes_seconds=0.5)
    first.answer = [*pieces(200, events("never seen")[:1])[:-1], 9.0]
    second.answer = pieces(200, events("Hi"))
    assert post(web, alice.key, ask(stream=True)).content == b"".join(events("Hi"))
    [row] = rows(1)
    assert row.attempts[0]["error_type"] == "no_answer_in_time"


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("many", [0, 1])
def test_a_stream_that_dies_before_its_first_block_is_begun_elsewhere(web, alice, first, second, end, many):
    first.answer = broken(events("never seen")[:many], end)
    second.answer = pieces(200, events("Grüße"))
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == b"".join(events("Grüße"))
    [row] = rows(1)
    assert [each["provider_key"] for each in row.attempts] == ["first", "second"]
    # A reset may take away what had arrived.
    assert (Decimal(row.attempts[0]["cost"]) > 0) == bool(many) or (many and end is End.RESET)
    assert row.cost == sum(Decimal(each["cost"]) for each in row.attempts)


def test_an_error_instead_of_a_stream_is_answered_elsewhere(web, alice, first, second):
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'
    first.answer = pieces(200, [error])
    second.answer = pieces(200, events("Hi"))
    assert post(web, alice.key, ask(stream=True)).content == b"".join(events("Hi"))
    [row] = rows(1)
    assert (row.attempts[0]["error_type"], row.attempts[0]["cost"]) == ("overloaded_error", "0")


def test_a_stream_that_dies_after_its_first_block_is_not(web, alice, first, second):
    first.answer = broken(events("Hi", "there")[:3])
    body = post(web, alice.key, ask(stream=True)).text
    assert "Hi" in body
    assert "event: error" in body
    assert not second.seen
    rows(1)


# Provider keys that are refused


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("of", [{"customer": "Globex"}, {"team": "Sales"}])
def test_a_provider_key_that_two_callers_are_refused_with_is_taken_out_for_everyone(
    web, alice, first, second, status, of
):
    first.answer = lambda seen: failing(status, "authentication_error") if seen.method == "POST" else whole(200, LISTED)
    bob = another(alice, "bob", **of)
    for caller in (alice, bob, alice, bob):
        assert post(web, caller.key).status_code == 200
    assert [seen.method for seen in first.seen].count("POST") == 2
    [cooldown] = Cooldown.objects.all()
    assert (cooldown.provider_key.name, cooldown.reason, cooldown.http_status) == ("first", "refused", status)
    rows(4)


@pytest.mark.parametrize(
    ("of", "third"), [({}, ""), ({"team": "Sales"}, "Globex")], ids=["one team", "one customer of two"]
)
def test_two_keys_of_one_team_or_customer_take_a_provider_key_from_nobody(web, alice, first, second, of, third):
    first.answer = lambda seen: failing(401, "authentication_error") if is_message(seen) else whole(200, LISTED)
    bob = another(alice, "bob", **of)
    if third:
        another(alice, "carol", customer=third)
    for caller in (alice, bob, alice, bob):
        assert post(web, caller.key).status_code == 200
    assert [is_message(seen) for seen in first.seen].count(True) == 4
    assert not Cooldown.objects.exists()


def is_message(seen):
    return seen.target == "/v1/messages"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_one_caller_sends_takes_a_provider_key_from_nobody(web, served, first, status):
    alice = issue(first)
    mallory = another(alice, "mallory")

    def answer(seen):
        poisoned = "poison" in seen.values("anthropic-beta") or b'"poison"' in seen.body
        return failing(status, "permission_error") if poisoned else whole(200, message())

    first.answer = answer
    hers = credentials(mallory.key)
    for given, body in (
        (hers | {"anthropic-beta": "poison"}, ask()),
        (hers, ask(metadata={"user_id": "poison"})),
        (hers | {"anthropic-beta": "poison"}, ask(stream=True)),
    ):
        for _ in range(2):
            refused(CLIENT.post(web.url + "/v1/messages", json=body, headers=given), 503, "api_error")
        assert post(web, alice.key).status_code == 200
    assert not Cooldown.objects.exists()


def test_a_dead_provider_key_is_found_out_by_a_request_in_our_own_name(web, alice, first, second):
    first.answer = failing(401, "authentication_error")
    assert post(web, alice.key).status_code == 200
    cooldown = wait_until(Cooldown.objects.first)
    assert (cooldown.provider_key.name, cooldown.reason, cooldown.http_status) == ("first", "refused", 401)
    [asked] = [seen for seen in first.seen if seen.method == "GET"]
    assert asked.target == "/v1/models?limit=1"
    assert post(web, alice.key).status_code == 200
    assert [seen.method for seen in first.seen].count("POST") == 1


def test_a_success_between_two_refusals_says_that_they_were_about_the_requests(web, served, first):
    alice = issue(first)
    bob = another(alice, "bob", customer="Globex")
    refusing = failing(403, "permission_error")
    for caller in (alice, bob):
        first.answer = lambda seen: refusing if seen.method == "POST" else whole(200, LISTED)
        refused(post(web, caller.key), 503, "api_error")
        first.answer = whole(200, message())
        assert post(web, caller.key).status_code == 200
    assert not Cooldown.objects.exists()


def test_a_refusal_of_counting_takes_messages_from_nobody(web, served, first):
    alice = issue(first)
    refusing = failing(403, "permission_error")
    first.answer = lambda seen: refusing if seen.target.endswith("count_tokens") else whole(200, message())
    body = {"model": MODEL, "messages": ask()["messages"]}
    for caller in (alice, another(alice, "bob", customer="Globex"), alice):
        refused(post(web, caller.key, body, "/v1/messages/count_tokens"), 503, "api_error")
    assert not Cooldown.objects.exists()
    assert post(web, alice.key).status_code == 200


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "You have reached your specified API usage limits. You will regain access on 2027-01-01."}),
        (400, {"message": "Your credit balance is too low to access the Anthropic API."}),
        (429, {"message": "No more.", "details": {"error_code": "enforced_spend_limit_reached"}}),
    ],
)
def test_a_spent_account_is_one(web, alice, first, second, status, error):
    body = {"type": "error", "error": {"type": "invalid_request_error"} | error}
    refusing = whole(status, json.dumps(body).encode())
    # Its list of models is had for nothing, and only counting tokens shows it.
    first.answer = lambda seen: whole(200, LISTED) if seen.method == "GET" else refusing
    assert post(web, alice.key).status_code == 200
    cooldown = wait_until(Cooldown.objects.first)
    assert (cooldown.reason, cooldown.http_status) == ("refused", status)
    assert first.last.target == "/v1/messages/count_tokens"


def test_the_words_of_a_spent_account_to_one_caller_take_a_provider_key_from_nobody(web, alice, first, second):
    said = {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}
    refusing = whole(400, json.dumps({"type": "error", "error": said}).encode())
    counted = whole(200, b'{"input_tokens": 1}')
    first.answer = lambda seen: (
        refusing if is_message(seen) else whole(200, LISTED) if seen.method == "GET" else counted
    )
    for caller in (alice, another(alice, "bob"), alice):
        assert post(web, caller.key).status_code == 200
    wait_until(lambda: any(seen.target.endswith("count_tokens") for seen in first.seen))
    assert not Cooldown.objects.exists()


@pytest.mark.parametrize(
    "words",
    [
        "Your credit balance is too low",
        "Your credit balance is too low to access the Anthropic API. "
        "Please go to Plans & Billing to upgrade or purchase credits.",
        "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.",
        "You have reached your specified workspace API usage limits. You will regain access on 2026-04-01.",
    ],
)
def test_a_spent_account_is_told_by_whole_messages(words):
    assert spent(json.dumps({"error": {"message": words}}).encode())
    for echo in (f"{words}: Extra inputs are not permitted", f"{words}\n", f"metadata: {words}"):
        assert not spent(json.dumps({"error": {"message": echo}}).encode())


def test_but_not_one_that_a_caller_only_speaks_of(web, alice, first, second):
    body = {"type": "invalid_request_error", "message": "metadata: You have reached your specified API usage limits"}
    first.answer = whole(400, json.dumps({"type": "error", "error": body}).encode())
    assert post(web, alice.key).status_code == 400
    assert not Cooldown.objects.exists()


def test_where_all_are_refused_the_caller_hears_that_it_is_ours(web, alice, first, second):
    first.answer = second.answer = failing(401, "authentication_error")
    headers = credentials(alice.key) | {"x-stainless-timeout": "2"}
    for _ in range(3):
        answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers)
        refused(answer, 503, "api_error")
        assert answer.headers["x-should-retry"] == "false"
        wait_until(lambda: Cooldown.objects.count() == 2)
    assert [[seen.method for seen in each.seen].count("POST") for each in (first, second)] == [1, 1]


def test_one_that_was_refused_for_a_moment_only_loses_no_call(web, served, first):
    alice = issue(first)
    first.answer = failing(403, "permission_error")
    refused(post(web, alice.key), 503, "api_error")
    wait_until(Cooldown.objects.exists)
    first.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    assert first.last.arrived - first.seen[1].arrived >= 2.9
    assert not Cooldown.objects.exists()


def test_another_secret_is_given_a_try(web, alice, first, second):
    first.answer = failing(401, "authentication_error")
    post(web, alice.key)
    wait_until(Cooldown.objects.exists)
    provider_keys.set_secret(ProviderKey.objects.get(name="first"), "sk-ant-another-one-1234567")
    time.sleep(1.2)  # every process reads them once a second
    first.answer = whole(200, message("well again"))
    assert post(web, alice.key).json()["content"][0]["text"] == "well again"


# Cooling down


def test_nobody_calls_a_provider_key_that_cools_down(web, alice, first, second):
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


def test_one_that_keeps_failing_is_tried_by_one_call_at_a_time(web, alice, first, second):
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


def test_one_that_answers_every_third_call_is_called_for_all_that(web, served, first):
    alice = issue(first)
    first.answer = lambda seen: whole(200, message()) if len(first.seen) % 3 == 0 else failing(500)
    with ThreadPoolExecutor(16) as pool:
        answers = Counter(answer.status_code for answer in pool.map(lambda _: post(web, alice.key), range(200)))
    assert set(answers) <= {200, 500}
    assert answers[200] > 100
    assert not Cooldown.objects.filter(strikes__gte=5).exists()


def test_where_all_cool_down_the_caller_hears_for_how_long(web, alice, first, second):
    for upstream in (first, second):
        upstream.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    assert post(web, alice.key).status_code == 429
    answer = post(web, alice.key)
    refused(answer, 429, "rate_limit_error")
    assert 590 <= int(answer.headers["retry-after"]) <= 600
    assert (len(first.seen), len(second.seen)) == (1, 1)


# Other models


def test_fallbacks_of_the_request_answer_in_turn(web, served, first):
    alice = issue(first)
    asked = []

    def answer(seen):
        asked.append(json.loads(seen.body))
        model = asked[-1]["model"]
        return whole(200, message(model=model)) if model == HAIKU else failing(529)

    first.answer = answer
    got = post(web, alice.key, ask(fallbacks=["claude-sonnet-5", HAIKU]))
    assert got.json()["model"] == got.headers["x-bf-model"] == HAIKU
    assert set(map(str, asked[0])) == {"model", "max_tokens", "messages"}
    assert Counter(each["model"] for each in asked)[HAIKU] == 1
    [row] = rows(1)
    assert (row.requested_model, row.model) == (MODEL, HAIKU)
    assert row.attempts[-1]["model"] == HAIKU


def test_fallbacks_of_the_virtual_key_do_where_the_request_names_none(web, served, first):
    alice = issue(first)
    VirtualKey.objects.update(fallback_models=[HAIKU])
    first.answer = lambda seen: whole(200, message(model=HAIKU)) if HAIKU.encode() in seen.body else failing(500)
    body = json.dumps(ask("  as it was  "), indent=1).encode()
    assert post(web, alice.key, body).status_code == 200
    assert first.last.body == body.replace(MODEL.encode(), HAIKU.encode())


def test_a_fallback_that_the_key_may_not_use_is_left_out(web, served, first):
    alice = issue(first, allowed_models=["claude-opus-*"])
    first.answer = failing(529)
    assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 529
    assert {json.loads(each.body)["model"] for each in first.seen} == {MODEL}


def test_the_dearest_model_that_may_answer_is_what_is_held(web, served, first):
    alice = issue(first)
    first.answer = whole(200, message())
    for fallbacks in ([], ["claude-fable-5-1"]):
        post(web, alice.key, ask(model=HAIKU, fallbacks=fallbacks))
    one, other = rows(2)
    assert other.held > 5 * one.held


def cooling_primary(served, first, status, *, model=MODEL):
    """A caller, and a provider that says to leave this model alone for a minute and answers for any other."""
    refusal = failing(status, "rate_limit_error" if status == 429 else "overloaded_error", ("retry-after", "60"))

    def answer(seen):
        body = json.loads(seen.body)
        if body["model"] == model:
            return refusal
        return pieces(200, events("Hi")) if body.get("stream") else whole(200, message(model=HAIKU))

    first.answer = answer
    return issue(first)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 529, 500, 503])
def test_every_next_call_goes_to_the_fallback_while_the_primary_model_cools_down(web, served, first, status, stream):
    alice = cooling_primary(served, first, status)
    for _ in range(4):
        answer = post(web, alice.key, ask(fallbacks=[HAIKU], stream=stream))
        assert (answer.status_code, answer.headers["x-bf-model"]) == (200, HAIKU)
    asked = [json.loads(each.body)["model"] for each in first.seen]
    assert asked == [MODEL, HAIKU, HAIKU, HAIKU, HAIKU]
    assert [row.attempts[-1]["model"] for row in rows(4)] == [HAIKU] * 4


def test_a_fallback_of_the_virtual_key_answers_while_the_primary_model_cools_down(web, served, first):
    alice = cooling_primary(served, first, 429)
    VirtualKey.objects.update(fallback_models=[HAIKU])
    assert [post(web, alice.key).status_code for _ in range(3)] == [200] * 3


def test_a_fallback_answers_on_another_process_while_the_primary_model_cools_down(start_web, served, first):
    alice = cooling_primary(served, first, 529)
    for web in (start_web(), start_web()):
        assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 200
    assert len(first.seen) == 3


def test_tokens_are_counted_by_the_fallback_while_the_primary_model_cools_down(web, served, first):
    alice = cooling_primary(served, first, 429)
    body = {"messages": ask()["messages"], "model": MODEL, "fallbacks": [HAIKU]}
    for _ in range(3):
        answer = CLIENT.post(web.url + "/v1/messages/count_tokens", json=body, headers=credentials(alice.key))
        assert answer.status_code == 200


def test_an_alias_waits_for_the_model_that_it_stands_for(web, served, first):
    alice = cooling_primary(served, first, 429)
    ModelAlias.objects.create(name="strong", target=f"anthropic/{MODEL}")
    ModelAlias.objects.create(name="fast", target=f"anthropic/{HAIKU}")
    assert [post(web, alice.key, ask(model="strong", fallbacks=["fast"])).status_code for _ in range(3)] == [200] * 3
    refused(post(web, alice.key, ask(model="strong")), 429, "rate_limit_error")
    assert post(web, alice.key, ask(model="fast")).status_code == 200
    assert [json.loads(each.body)["model"] for each in first.seen] == [MODEL, HAIKU, HAIKU, HAIKU, HAIKU]


def test_budgets_of_the_fallback_count_while_the_primary_model_cools_down(web, served, first):
    alice = cooling_primary(served, first, 429)
    budget = Budget.objects.create(amount=10, team=alice.team, model_patterns=["claude-haiku-*"])
    for _ in range(2):
        assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 200
    found = rows(2)
    assert Window.objects.get(budget=budget).spent == sum(row.cost for row in found)
    assert verification.verify() == []


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


# Names of our own


def test_an_alias_stands_for_a_model(web, served, first):
    alice = issue(first)
    ModelAlias.objects.create(name="fast", target=f"anthropic/{HAIKU}")
    first.answer = whole(200, message(model=HAIKU))
    answer = post(web, alice.key, ask(model="fast"))
    assert answer.json()["model"] == answer.headers["x-bf-model"] == HAIKU
    assert json.loads(first.last.body)["model"] == HAIKU
    [row] = rows(1)
    assert (row.requested_model, row.model) == ("fast", HAIKU)
    assert row.cost == (Decimal(1) * 11 + Decimal(5) * 7).scaleb(-6)


def test_a_model_may_be_named_with_its_provider(web, served, first):
    alice = issue(first)
    first.answer = whole(200, message())
    assert post(web, alice.key, ask(model=f"anthropic/{MODEL}")).status_code == 200
    assert json.loads(first.last.body)["model"] == MODEL
    refused(post(web, alice.key, ask(model=f"openai/{MODEL}")), 404, "not_found_error")


def test_a_list_of_models_counts_by_any_of_their_names(web, served, first):
    ModelAlias.objects.create(name="fast", target=HAIKU)
    first.answer = whole(200, message())
    by_name = issue(first, "by name", allowed_models=["fast"])
    by_model = issue(first, "by model", allowed_models=["claude-haiku-*"])
    denied = issue(first, "denied", denied_models=["claude-haiku-*"])
    assert post(web, by_name.key, ask(model="fast")).status_code == 200
    refused(post(web, by_name.key, ask(model=HAIKU)), 403, "permission_error")
    for model in ("fast", HAIKU, f"anthropic/{HAIKU}"):
        assert post(web, by_model.key, ask(model=model)).status_code == 200
        refused(post(web, denied.key, ask(model=model)), 403, "permission_error")


# Providers that speak something else


def test_where_one_providers_protocol_cannot_say_it_another_ones_answers(web, served, first, second):
    narrow = provider_keys.add_provider_key(
        name="narrow", provider="openai", base_url=first.url, secret="sk-of-some-other-provider-12"
    )
    alice = issue(second, provider_keys=[(narrow, 1_000_000), (provider_key("second", second), 1)])
    search = {"type": "web_search_20250305", "name": "web_search"}
    answer = post(web, alice.key, ask(tools=[search]))
    assert answer.json()["content"][0]["text"] == "from the second"
    assert not first.seen
    [row] = rows(1)
    assert [(each["provider"], each["http_status"]) for each in row.attempts] == [("openai", None), ("anthropic", 200)]


def test_a_fallback_may_be_anothers_model(web, served, first, second):
    theirs = provider_keys.add_provider_key(
        name="theirs", provider="openai", base_url=second.url, secret="sk-of-some-other-provider-12"
    )
    alice = issue(first, provider_keys=[(provider_key("first", first), 1), (theirs, 1)])
    first.answer = failing(529)
    choice = {"index": 0, "message": {"role": "assistant", "content": "from afar"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-5-mini", "choices": [choice]}
    second.answer = whole(200, json.dumps(completion | {"usage": usage}).encode())
    answer = post(web, alice.key, ask(model=f"anthropic/{MODEL}", fallbacks=["openai/gpt-5-mini"]))
    assert answer.json()["content"] == [{"type": "text", "text": "from afar"}]
    assert (answer.headers["x-bf-provider"], answer.headers["x-bf-model"]) == ("openai", "gpt-5-mini")
    assert json.loads(second.last.body)["model"] == "gpt-5-mini"
    [row] = rows(1)
    assert (row.provider, row.model, row.output_tokens) == ("openai", "gpt-5-mini", 7)


# Budgets


def test_budgets_by_model_go_by_the_model_and_not_by_its_alias(web, served, first):
    alice = issue(first)
    ModelAlias.objects.create(name="fast", target=HAIKU)
    Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-haiku-*"])
    refused(post(web, alice.key, ask(model="fast")), 429, "billing_error")
    assert not first.seen


def test_a_fallback_that_its_budget_cannot_bear_is_not_tried(web, served, first):
    alice = issue(first)
    Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-haiku-*"])
    first.answer = failing(529)
    assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 529
    assert all(json.loads(each.body)["model"] == MODEL for each in first.seen)
    rows(1)


def test_what_attempts_have_cost_is_spent_and_nothing_stays_held(web, alice, first, second):
    ProviderKey.objects.update(retry_unanswered=True)
    Budget.objects.create(amount=10, team=alice.team)
    first.answer = [End.RESET]
    assert post(web, alice.key).status_code == 200
    [row] = rows(1)
    window = Window.objects.get()
    assert window.spent == row.cost
    assert window.held == 0
    assert verification.verify() == []


def test_another_attempt_waits_for_no_more_than_its_budget_has(web, alice, first, second):
    ProviderKey.objects.update(retry_unanswered=True)
    first.answer = second.answer = [End.RESET]
    post(web, alice.key)
    [row] = rows(1)
    Budget.objects.create(amount=Decimal(row.attempts[0]["cost"]) * 3 / 2, team=alice.team)
    Cooldown.objects.all().delete()
    time.sleep(1.2)
    seen = len(first.seen) + len(second.seen)
    refused(post(web, alice.key), 502, "api_error")
    assert len(first.seen) + len(second.seen) == seen + 1
    assert verification.verify() == []


def test_a_fallback_answers_before_anybody_waits_for_a_provider_key_that_cools_down(web, served, first):
    alice = issue(first)
    wait = failing(429, "rate_limit_error", ("retry-after", "5"))
    first.answer = lambda seen: whole(200, message(model=HAIKU)) if HAIKU.encode() in seen.body else wait
    answer = post(web, alice.key, ask(fallbacks=[HAIKU]))
    assert (answer.status_code, answer.headers["x-bf-attempts"]) == (200, "2")
    assert [json.loads(each.body)["model"] for each in first.seen] == [MODEL, HAIKU]
