"""Calls that may go to several places: what is tried again where, what the caller gets, and what the ledger says."""

from __future__ import annotations

import time
from decimal import Decimal

import httpx
import pytest

from keys import provider_keys
from keys.models import Cooldown, ProviderKey
from tests.support.fake_provider import End, broken, pieces, whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    PROVIDER_SECRET,
    ask,
    credentials,
    events,
    issue,
    message,
    post,
    refused,
    rows,
)
from tests.support.two_providers import COST, failing, nobody_there, provider_key
from tests.support.two_providers import alice as alice
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second
from usage import verification
from usage.budgets import Budget, Window


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_a_temporary_failure_is_retried_on_the_next_provider_key(web, alice, first, second, status):
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
def test_a_refusal_that_every_provider_key_would_give_is_the_answer(web, alice, first, second, status):
    first.answer = failing(status, "invalid_request_error")
    answer = post(web, alice.key)
    assert (answer.status_code, answer.headers["request-id"]) == (status, f"req_up_{status}")
    assert not second.seen


def test_an_unreachable_provider_costs_nothing_and_another_answers(web, served, first, second):
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


def test_the_only_provider_key_is_tried_again_if_it_cannot_be_reached(web, served, first):
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


# What was sent and never answered


def test_a_request_that_was_sent_and_reset_is_not_sent_again(web, alice, first, second):
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
def test_an_incomplete_answer_is_retried_if_its_provider_key_says_so(web, alice, first, second, garbage):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True)
    first.answer = whole(200, garbage)
    assert post(web, alice.key).json()["content"][0]["text"] == "from the second"
    [row] = rows(1)
    assert [each["error_type"] for each in row.attempts] == ["bad_answer", ""]
    assert row.cost == sum(Decimal(each["cost"]) for each in row.attempts) > COST


def test_an_answer_that_is_cut_off_is_retried_if_its_provider_key_says_so(web, alice, first, second):
    ProviderKey.objects.filter(name="first").update(retry_unanswered=True)
    first.answer = [whole(200, message())[0][:-9], End.CLOSE]
    assert post(web, alice.key).json()["content"][0]["text"] == "from the second"
    [row] = rows(1)
    assert [each["error_type"] for each in row.attempts] == ["broken_off", ""]


def test_counting_tokens_costs_nothing_and_so_is_always_retried(web, alice, first, second):
    first.answer = [End.RESET]
    second.answer = whole(200, b'{"input_tokens": 9}')
    body = {"model": MODEL, "messages": ask()["messages"]}
    assert post(web, alice.key, body, "/v1/messages/count_tokens").json() == {"input_tokens": 9}


def test_counting_is_not_tried_again_where_its_provider_says_when(web, alice, first, second):
    first.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    second.answer = failing(429, "rate_limit_error", ("retry-after", "600"))
    body = ask()
    body.pop("max_tokens")
    answer = post(web, alice.key, body, "/v1/messages/count_tokens")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "600")
    assert (len(first.seen), len(second.seen)) == (1, 1)


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
