"""Patterns of model names, against a regular expression that means the same."""

from __future__ import annotations

import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import patterns
from messages_api.relay.holds import CallHold, by_its_names
from messages_api.request.estimates import NO_EXTRAS

names = st.text(st.sampled_from("ab-"), max_size=8)


@given(st.text(st.sampled_from("ab-*"), max_size=8), names)
def test_a_star_stands_for_any_characters_and_everything_else_for_itself(pattern, name):
    meant = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert patterns.stands_for(pattern, name) == bool(re.fullmatch(meant, name))


@pytest.mark.parametrize("stars", [5, 50, 99])
def test_many_stars_and_a_long_name_end_at_once(stars):
    assert not patterns.stands_for("*-" * stars + "x", "-" * 200)
    assert patterns.stands_for("*-" * stars + "*", "-" * 200)


@pytest.mark.parametrize(
    ("denied", "name"),
    [
        ("claude-opus-5-5", "claude-opus-5-5-fast"),
        ("claude-opus-5-5", "azure/Claude-Opus-5-5-FAST"),
        ("claude-opus-4-6", "anthropic/claude-opus-4.6-fast"),
        ("gpt-5-pro", "openrouter/auto"),
        ("gpt-5-pro", "openai/openrouter/AUTO:nitro"),
        ("claude-*", "model-router"),
        ("claude-*", "model-router-2026-11-01"),
        ("claude-*", "auto"),
    ],
)
def test_a_denied_model_is_not_had_by_its_fast_mode_or_by_a_seller_that_chooses_it(denied, name):
    assert not patterns.allows((), (denied,), name)
    assert not patterns.allows(("*",), (denied,), name)
    assert patterns.allows((), (), name)
    assert patterns.allows((name,), (), name)


def test_fast_mode_as_a_model_counts_for_budgets_of_the_model():
    price: Any = None
    held = CallHold(price, Decimal(1), 0, Decimal(0), 1)

    def names(model):
        request = SimpleNamespace(model=model, extras=NO_EXTRAS)
        target = SimpleNamespace(asked=model, model=model)
        call: Any = SimpleNamespace(target=target, request=request, model=model)
        shares = by_its_names(call, held)
        return {model} | {name for share in (shares or {}).values() for name in share.also}

    assert names("claude-opus-5-5-fast") == {"claude-opus-5-5-fast", "claude-opus-5-5"}
    assert names("claude-opus-5-5") == {"claude-opus-5-5"}


def test_a_seller_may_choose_for_a_key_that_is_allowed_this_by_name():
    assert patterns.allows(("gpt-5", "OpenRouter/Auto"), ("gpt-5-pro",), "openrouter/auto")
    assert not patterns.allows(("claude-*-fast",), ("claude-opus-5-5",), "claude-opus-5-5-fast")


@pytest.mark.parametrize("name", ["claude-haiku-5-5-fast", "automata-1", "openrouter/sonoma-sky", "claude-breakfast"])
def test_other_names_are_allowed_beside_a_denied_one(name):
    assert patterns.allows((), ("claude-opus-5-5",), name)
