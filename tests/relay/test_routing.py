"""Which provider key a call goes to: shares by weight, nothing moves in vain, and a conversation stays together."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.directory import KnownKey, KnownProviderKey
from messages_api.relay.routing import MOST_REMEMBERED, plan, rendezvous
from messages_api.request import conversation, plain
from messages_api.server.errors import GatewayError
from tests.support.gateway import MODEL, ask

NAMES = [f"conversation {number}" for number in range(4000)]
WEIGHTS = st.dictionaries(st.integers(1, 10_000), st.integers(1, 1000), min_size=1, max_size=6)

quick = settings(max_examples=25, deadline=None)


def provider_key(number, patterns=(), provider="anthropic"):
    return KnownProviderKey(number, f"key {number}", provider, "", "", tuple(patterns))


def weighted(weights):
    return [(provider_key(number), weight) for number, weight in weights.items()]


def chosen(weights, names=NAMES):
    routes = weighted(weights)
    return [rendezvous(name, routes).id for name in names]


def make_key(*routes, number=1, **members):
    return KnownKey(1, number, "alice", 1, 1, (), (), False, routes, **members)


def opening(content):
    return conversation.opening(plain.of(content))


def name_of(body, key=None, headers=()):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return conversation.name((key or make_key()).id, list(headers), opening(content))


# Shares


@quick
@given(WEIGHTS)
def test_each_provider_key_gets_its_share_of_many_conversations(weights):
    shares = Counter(chosen(weights))
    for number, weight in weights.items():
        share = weight / sum(weights.values())
        # Six times the standard deviation of this many draws.
        spread = 6 * (share * (1 - share) / len(NAMES)) ** 0.5
        assert abs(shares[number] / len(NAMES) - share) <= spread + 1 / len(NAMES)


@quick
@given(WEIGHTS, st.integers(10_001, 20_000), st.integers(1, 1000))
def test_a_provider_key_that_is_added_takes_conversations_and_moves_no_other(weights, added, weight):
    before, after = chosen(weights), chosen(weights | {added: weight})
    assert all(new in (old, added) for old, new in zip(before, after, strict=True))


@quick
@given(WEIGHTS.filter(lambda weights: len(weights) > 1), st.data())
def test_a_provider_key_that_goes_leaves_its_conversations_to_the_others_and_moves_no_other(weights, data):
    gone = data.draw(st.sampled_from(sorted(weights)))
    before, after = chosen(weights), chosen({number: weights[number] for number in weights if number != gone})
    assert all(new == old for old, new in zip(before, after, strict=True) if old != gone)


@quick
@given(WEIGHTS, st.data())
def test_a_larger_weight_only_draws_conversations_to_its_provider_key(weights, data):
    raised = data.draw(st.sampled_from(sorted(weights)))
    before, after = chosen(weights), chosen(weights | {raised: weights[raised] + data.draw(st.integers(1, 1000))})
    assert all(new in (old, raised) for old, new in zip(before, after, strict=True))


@given(st.text(), WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_routes_does_not_matter(name, weights, random):
    routes = weighted(weights)
    shuffled = random.sample(routes, len(routes))
    assert rendezvous(name, routes) == rendezvous(name, shuffled)


def test_the_choice_is_the_same_in_every_version():
    assert chosen({1: 1, 2: 1, 3: 2}, NAMES[:12]) == CHOSEN


# Written down once: another choice would move every conversation away from its caches.
CHOSEN = [1, 1, 3, 2, 3, 1, 3, 3, 1, 1, 1, 3]


def test_where_there_is_no_choice_the_conversation_is_not_asked_for():
    def never():
        raise AssertionError("asked for")

    key = make_key((provider_key(1), 1), (provider_key(2, ["gpt-*"]), 1), (provider_key(3, provider="vertex"), 1))
    [[target]] = plan(key, [MODEL], {"anthropic"}, never)
    assert target.provider_key.id == 1


@pytest.mark.parametrize(
    ("patterns", "choice"),
    [
        ([("claude-a",)], False),
        ([("claude-a",), ("claude-b", "claude-c")], False),
        ([("claude-a",), ("CLAUDE-A",)], True),
        ([("claude-a",), ("claude-b*",)], True),
        ([("claude-a",), ()], True),
        ([("claude-a",), ("openrouter/claude-a",)], True),
    ],
)
def test_a_key_has_a_choice_unless_each_of_its_models_has_one_provider_key(patterns, choice):
    key = make_key(*((provider_key(number, each), 1) for number, each in enumerate(patterns)))
    assert key.has_choice is choice


def test_a_key_remembers_the_targets_of_a_few_models_and_plans_the_others_alike():
    key = replace(make_key((provider_key(1), 1), (provider_key(2), 1)), denied=("claude-5",))
    models = [f"claude-{number}" for number in range(100) if number != 5]
    first = [plan(key, [model], {"anthropic"}, lambda: "a conversation") for model in models]
    assert len(key.served) == MOST_REMEMBERED
    assert [plan(key, [model], {"anthropic"}, lambda: "a conversation") for model in models] == first
    with pytest.raises(GatewayError):
        plan(key, ["claude-5"], {"anthropic"}, lambda: "a conversation")
    other = key.with_route(provider_key(3))
    assert plan(other, ["claude-1"], {"anthropic"}, lambda: "")[0][0].provider_key.id == 3


def test_a_model_that_no_provider_key_serves_is_unknown():
    key = make_key((provider_key(2, ["gpt-*"]), 1))
    with pytest.raises(GatewayError, match=f"model: {MODEL}"):
        plan(key, [MODEL], {"anthropic"}, str)


# Names


def turns(*texts):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def test_the_name_stays_through_the_turns_of_a_conversation():
    first = ask(system="Be brief.", messages=turns("Hello"))
    later = ask(system="Be brief.", messages=turns("Hello", "Hi", "More"), temperature=0.5)
    assert name_of(first) == name_of(later)


def test_the_name_does_not_depend_on_the_model():
    assert name_of(ask(model="claude-opus-5-5")) == name_of(ask(model="claude-haiku-4-5"))


def test_the_name_does_not_depend_on_where_the_cache_markers_are():
    marker = {"cache_control": {"type": "ephemeral"}}
    plain = ask(system="Be brief.", messages=turns("Hello"))
    marked = ask(
        system=[{"type": "text", "text": "Be brief."} | marker],
        messages=turns([{"type": "text", "text": "Hello"} | marker]),
    )
    assert name_of(plain) == name_of(marked)


@pytest.mark.parametrize(
    "other",
    [
        ask(system="Be brief.", messages=turns("Good morning")),
        ask(system="Be verbose.", messages=turns("Hello")),
        ask(messages=turns("Hello")),
    ],
)
def test_another_beginning_is_another_conversation(other):
    assert name_of(other) != name_of(ask(system="Be brief.", messages=turns("Hello")))


ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=cli; cch={};"


@pytest.mark.parametrize("prompt", ["You are Claude Code.", "You are… " * 100_000], ids=["short", "long"])
@pytest.mark.parametrize("form", ["blocks", "two lines of it", "text", "an escaped text"])
def test_a_clients_words_about_itself_are_no_part_of_the_name(form, prompt):
    def name(nonce):
        line = ATTRIBUTION.format(nonce)
        match form:
            case "blocks":
                system: Any = [{"type": "text", "text": line}, {"type": "text", "text": prompt}]
            case "two lines of it":
                system = [{"type": "text", "text": text} for text in (line, line, prompt)]
            case _:
                system = f"{line}\n{prompt}"
        body = json.dumps({"system": system, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        if form == "an escaped text":
            body = body.replace(b"x-anthropic", rb"\u0078-anthropic")
        return name_of(body)

    assert name("00000") == name("7f3a1")
    other = json.dumps({"system": "Another.", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    assert name("00000") != name_of(other)


def test_only_what_a_system_prompt_begins_with_is_left_out():
    def name(nonce):
        system = [{"type": "text", "text": text} for text in ("You are Claude Code.", ATTRIBUTION.format(nonce))]
        body = json.dumps({"system": system, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        return name_of(body)

    assert name("00000") != name("7f3a1")


def test_another_key_has_other_conversations():
    assert name_of(ask()) != name_of(ask(), make_key(number=2))


def test_a_session_is_one_conversation_however_it_begins():
    session = [(b"x-claude-code-session-id", b"8c1f")]
    assert name_of(ask("Hello"), headers=session) == name_of(ask("Compacted."), headers=session)
    assert name_of(ask(), headers=session) != name_of(ask(), headers=[(b"x-claude-code-session-id", b"9d2e")])


@pytest.mark.parametrize(
    "body",
    [
        ask(messages=[{"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}]),
        ask(messages=[{"role": "system"}]),
        ask("x" * 400_000),
        b'{"messages": [{"role": "user", "content": [{"type": "later", "value": %s}]}]}' % (b"7" * 40),
        b'{"messages": [{"role": "user", "content": [%s%s]}]}' % (b"[" * 900, b"]" * 900),
    ],
)
def test_each_valid_request_has_a_conversations_name(body):
    assert name_of(body) == name_of(body)


def test_only_the_first_part_of_a_long_beginning_counts():
    assert name_of(ask("x" * 400_000)) == name_of(ask("x" * 500_000))
    assert name_of(ask("x" * 400_000)) != name_of(ask("y" * 400_000))
