"""Whether a provider's refusal is about our provider key, or about what one client sends."""

from __future__ import annotations

import json
import time

import pytest

from keys import provider_keys
from keys.models import Cooldown, ProviderKey
from messages_api.providers.anthropic import spent
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
from tests.support.two_providers import LISTED, another, failing
from tests.support.two_providers import alice as alice
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("of", [{"customer": "Globex"}, {"team": "Sales"}])
def test_a_provider_key_that_two_callers_are_refused_with_is_taken_out_for_everyone(
    web, alice, first, second, status, of
):
    first.answer = lambda seen: failing(status, "authentication_error") if is_message(seen) else whole(200, LISTED)
    bob = another(alice, "bob", **of)
    for caller in (alice, bob, alice, bob):
        assert post(web, caller.key).status_code == 200
    assert [is_message(seen) for seen in first.seen].count(True) == 2
    [cooldown] = Cooldown.objects.all()
    assert (cooldown.provider_key.name, cooldown.reason, cooldown.http_status) == ("first", "refused", status)
    rows(4)


@pytest.mark.parametrize(
    ("of", "third"), [({}, ""), ({"team": "Sales"}, "Globex")], ids=["one team", "one customer of two"]
)
def test_two_keys_of_one_team_or_customer_take_a_provider_key_from_no_other_caller(
    web, alice, first, second, of, third
):
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
def test_one_callers_request_takes_a_provider_key_from_no_other_caller(web, served, first, status):
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


def test_a_refusal_of_counting_tokens_takes_messages_from_no_caller(web, served, first):
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


def test_one_callers_message_about_a_spent_account_takes_a_provider_key_from_no_other_caller(web, alice, first, second):
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
def test_a_spent_account_is_recognised_by_whole_messages(words):
    assert spent(json.dumps({"error": {"message": words}}).encode())
    for echo in (f"{words}: Extra inputs are not permitted", f"{words}\n", f"metadata: {words}"):
        assert not spent(json.dumps({"error": {"message": echo}}).encode())


def test_but_not_one_that_a_caller_only_speaks_of(web, alice, first, second):
    body = {"type": "invalid_request_error", "message": "metadata: You have reached your specified API usage limits"}
    first.answer = whole(400, json.dumps({"type": "error", "error": body}).encode())
    assert post(web, alice.key).status_code == 400
    assert not Cooldown.objects.exists()


def test_if_all_are_refused_the_error_says_that_the_gateways_key_is_refused(web, alice, first, second):
    first.answer = second.answer = failing(401, "authentication_error")
    headers = credentials(alice.key) | {"x-stainless-timeout": "2"}
    for _ in range(3):
        answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers)
        refused(answer, 503, "api_error")
        assert answer.headers["x-should-retry"] == "false"
        wait_until(lambda: Cooldown.objects.count() == 2)
    assert [[seen.method for seen in each.seen].count("POST") for each in (first, second)] == [1, 1]


def test_a_provider_key_that_was_refused_for_a_moment_loses_no_call(web, served, first):
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
