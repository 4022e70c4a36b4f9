"""Models that answer in place of the one that a call asks for."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from keys import provider_keys
from keys.models import ModelAlias, VirtualKey
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    ask,
    credentials,
    events,
    issue,
    message,
    post,
    refused,
    rows,
)
from tests.support.two_providers import HAIKU, failing, provider_key
from tests.support.two_providers import alice as alice
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second
from usage import verification
from usage.budgets import Budget, Window


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


def test_a_fallback_that_its_budget_cannot_bear_is_not_tried(web, served, first):
    alice = issue(first)
    Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-haiku-*"])
    first.answer = failing(529)
    assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 529
    assert all(json.loads(each.body)["model"] == MODEL for each in first.seen)
    rows(1)


def test_a_fallback_answers_before_a_call_waits_for_a_provider_key_that_cools_down(web, served, first):
    alice = issue(first)
    wait = failing(429, "rate_limit_error", ("retry-after", "5"))
    first.answer = lambda seen: whole(200, message(model=HAIKU)) if HAIKU.encode() in seen.body else wait
    answer = post(web, alice.key, ask(fallbacks=[HAIKU]))
    assert (answer.status_code, answer.headers["x-bf-attempts"]) == (200, "2")
    assert [json.loads(each.body)["model"] for each in first.seen] == [MODEL, HAIKU]
