"""Refusals and headers about budgets and limits, over the wire."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import anthropic
import pytest

from keys.models import Customer
from messages_api.callers import quota
from tests.support.fake_provider import broken, pieces, whole
from tests.support.gateway import ask, events, message, post, refused, row
from usage.models import Budget, Hold, LedgerEntry, Limit, Price, Window


@pytest.fixture
def priced(served):
    """USD 1 and 10 for a million tokens."""
    Price.objects.create(model="claude-opus-5-5", input=1, output=10, cache_read=0, cache_write_5m=1, cache_write_1h=1)
    yield
    Price.objects.filter(model="claude-opus-5-5").delete()


def test_a_call_that_may_cost_too_much_is_refused_with_what_would_fit(web, alice, upstream, priced):
    Customer.objects.update(time_zone="Europe/Berlin")
    Budget.objects.create(team=alice.team, amount=Decimal("0.1"))
    answer = post(web, alice.key, ask(max_tokens=20_000))
    text = refused(answer, 429, "billing_error")
    assert text.startswith("This call needs up to $0.2001, $0.1000 left of $0.1000 for team Research until 1 ")
    assert text.endswith(" 00:00 Europe/Berlin; lower max_tokens to about 9,900.")
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert not upstream.seen
    assert not Hold.objects.exists()
    upstream.answer = whole(200, message())
    assert post(web, alice.key, ask(max_tokens=9_900)).status_code == 200


@pytest.mark.wire(13)
def test_the_sdk_does_not_try_again_what_a_budget_refuses(web, alice, upstream, priced):
    Budget.objects.create(team=alice.team, amount=0)
    asked: list[object] = []
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [asked.append]})
    sdk = anthropic.Anthropic(base_url=web.url, api_key=alice.key, max_retries=5, http_client=http)
    with sdk, pytest.raises(anthropic.RateLimitError) as caught:
        sdk.messages.create(**ask())
    assert caught.value.type == "billing_error"
    assert len(asked) == 1
    assert not upstream.seen


def test_where_nothing_useful_would_fit_nothing_is_advised(web, alice, priced):
    Budget.objects.create(team=alice.team, amount=0)
    text = refused(post(web, alice.key), 429, "billing_error")
    assert ", nothing left of $0.0000 for team Research until 1 " in text
    assert "max_tokens" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_call_at_another_process_is_not_refused_because_of_the_hold_before(
    web, start_web, alice, upstream, priced, stream
):
    Budget.objects.create(team=alice.team, amount=Decimal("0.02"))  # has room for one such call at a time
    webs = [web, start_web(admission_seconds=3.5)]
    upstream.answer = pieces(200, events("Hi")) if stream else whole(200, message())
    body = ask(max_tokens=1500, stream=stream)
    assert [post(webs[n % 2], alice.key, body).status_code for n in range(30)] == [200] * 30


@pytest.mark.parametrize("answer", [pieces(200, events("Hi")[:-1]), broken(events("Hi")[:3])], ids=["no stop", "cut"])
def test_a_stream_that_the_gateway_had_to_end_does_not_make_the_next_process_refuse(
    web, start_web, alice, upstream, priced, answer
):
    Budget.objects.create(team=alice.team, amount=Decimal("0.0199"))  # has room for one such call at a time
    webs = [web, start_web(admission_seconds=3.5)]
    upstream.answer = answer
    body = ask(max_tokens=1000, stream=True)
    assert [post(webs[n % 2], alice.key, body).status_code for n in range(8)] == [200] * 8


def test_settling_leaves_exactly_the_cost(web, alice, upstream, priced):
    Budget.objects.create(virtual_key=alice.virtual_key, amount=1)
    upstream.answer = whole(200, message(input_tokens=11, output_tokens=7))
    assert post(web, alice.key).status_code == 200
    entry = row()
    window = Window.objects.get()
    assert (window.spent, window.held) == (entry.cost, Decimal(0))
    assert entry.cost == Decimal("0.000081")


def test_a_call_that_the_provider_refuses_gives_everything_back(web, alice, upstream, priced):
    Budget.objects.create(virtual_key=alice.virtual_key, amount=1)
    upstream.answer = whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}')
    assert post(web, alice.key).status_code == 400
    assert row().cost == 0
    window = Window.objects.get()
    assert window.spent == window.held == 0


def test_counting_tokens_is_free(web, alice, upstream, priced):
    Budget.objects.create(team=alice.team, amount=0)
    Limit.objects.create(team=alice.team, kind="parallel", rate=1)
    upstream.answer = whole(200, b'{"input_tokens":3}')
    body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "x"}]}
    for _ in range(3):
        assert post(web, alice.key, body, "/v1/messages/count_tokens").status_code == 200


def test_answers_say_how_the_limits_stand(web, alice, upstream):
    Limit.objects.create(team=alice.team, kind="rpm", rate=60)
    Limit.objects.create(virtual_key=alice.virtual_key, kind="rpm", rate=600)
    Limit.objects.create(team=alice.team, kind="output_tpm", rate=1_000_000)
    upstream.answer = whole(200, message(), ("anthropic-ratelimit-requests-limit", "4000"))
    answer = post(web, alice.key)
    said = {name: value for name, value in answer.headers.items() if name.startswith("anthropic-ratelimit-")}
    assert said["anthropic-ratelimit-requests-limit"] == "60"
    assert said["anthropic-ratelimit-requests-remaining"] == "9"
    assert said["anthropic-ratelimit-output-tokens-remaining"] == str(100_000 - 64)
    assert said["anthropic-ratelimit-tokens-limit"] == "1000000"
    for name in ("requests", "output-tokens", "tokens"):
        assert datetime.fromisoformat(said[f"anthropic-ratelimit-{name}-reset"]).tzinfo
    assert "anthropic-ratelimit-input-tokens-limit" not in said
    upstream.answer = pieces(200, events("Hi"))
    assert post(web, alice.key, ask(stream=True)).headers["anthropic-ratelimit-requests-remaining"] == "8"


def test_a_call_that_comes_too_soon_gets_a_retry_after(web, alice, upstream):
    Limit.objects.create(team=alice.team, kind="rpm", rate=10, burst=1)
    upstream.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    answer = post(web, alice.key)
    text = refused(answer, 429, "rate_limit_error")
    assert text == "Limit of 10 requests a minute, 1 at once, for team Research: try again in 6 s."
    assert answer.headers["retry-after"] == "6"
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "10"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert datetime.fromisoformat(answer.headers["anthropic-ratelimit-requests-reset"]).tzinfo
    assert LedgerEntry.objects.count() == 1


def test_moments_are_never_said_to_be_earlier_than_they_are():
    assert quota.whole_second("2026-11-30T23:00:00.2+00:00") == "2026-11-30T23:00:01Z"
