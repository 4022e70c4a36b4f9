"""No spelling of a model's name, and no date or suffix in it, makes the model cheaper than it is."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import provider_kinds
from tests.money.test_pricing import HIGH_RATE, NOW, REFUSE, price, row
from usage import named_models, pricing
from usage.pricing import UnpricedModel
from usage.tokens import TokenCounts

# What callers may write around a model's name.
FORMS = (
    "{}-2027-01-01",
    "{}-20270101",
    "{}@20270101",
    "{}:nitro",
    "{}-2027-01-01:online",
    "{}[1m]",
    "openai/{}",
    "openai/openai/{}",
    "models/{}",
    "us.{}",
    "openai/openai/{}-2027-01-01",
)
CATALOGUED = [
    (kind, entry.id)
    for kind in ("anthropic", "azure", "openai")
    for source in (*provider_kinds.find(kind).price_lists, *provider_kinds.find(kind).guesses)
    for entry in pricing.catalogue()[source].models
]


def rates(found):
    return [(found.at(length).input, found.at(length).output) for length in (0, 100_000, 250_000, 1_000_000)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "o1-pro"),
        ("openai", "gpt-5.4-pro"),
        ("openai", "anthropic/claude-opus-4.6-fast"),
        ("azure", "gpt-5.5-pro"),
        ("azure", "gpt-4-32k"),
    ],
)
def test_no_spelling_of_an_expensive_model_is_cheaper(provider, model, form):
    own, spelled = price(model, provider), price(form.format(model), provider)
    assert all(
        one >= other for pair in zip(rates(spelled), rates(own), strict=True) for one, other in zip(*pair, strict=True)
    )


@given(listed=st.sampled_from(CATALOGUED), form=st.sampled_from(FORMS))
def test_no_spelling_of_a_listed_model_is_cheaper(listed, form):
    provider, model = listed
    own, spelled = price(model, provider), price(form.format(model), provider)
    # A seller may list the very same name at a price of its own; `:thinking` has a price for what it thinks.
    if own.flag != "unpriced" and spelled.flag and ":" not in model:
        assert all(
            one >= other
            for pair in zip(rates(spelled), rates(own), strict=True)
            for one, other in zip(*pair, strict=True)
        )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("azure", "claude-opus-5-5-fast"),
        ("azure", "Claude-Opus-5-5-FAST"),
        ("azure", "claude-opus-4-8-fast"),
        ("anthropic", "claude-opus-5-5-fast"),
        ("anthropic", "anthropic/claude-opus-5.5-fast"),
        ("openai", "claude-opus-5-5-fast"),
        ("openai", "anthropic/claude-opus-4.6-fast"),
    ],
)
def test_fast_mode_that_a_seller_has_as_a_model_of_its_own_costs_what_fast_mode_costs(provider, model):
    found, plain = price(model, provider), price(re.sub("-fast", "", model, flags=re.IGNORECASE), provider)
    used = TokenCounts(input_tokens=1000, output_tokens=1000, cache_read_input_tokens=1000)
    assert found.cost(used) >= plain.cost(used, speed="fast") >= 2 * plain.cost(used)
    assert found.flag or provider == "openai"


def test_an_answer_that_names_a_fast_model_without_that_costs_as_much():
    azure = provider_kinds.find("azure")
    assert azure.sold_as("", "claude-opus-5-5-fast", "claude-opus-5-5") == "claude-opus-5-5-fast"
    assert azure.sold_as("", "claude-opus-5-5-fast", "claude-opus-5-5-fast") == "claude-opus-5-5-fast"
    assert azure.sold_as("", "claude-opus-5-5", "claude-opus-5-5-20260901") == "claude-opus-5-5-20260901"
    assert azure.sold_as("", "claude-opus-5-5-fast", "gpt-5") == "gpt-5"
    assert azure.sold_as("", "claude-breakfast", "claude-opus-5-5") == "claude-opus-5-5"


# Variants with names of their own, and what callers may write before the part that makes the difference.
VARIANTS = [
    (kind, listed, found[1], found[2])
    for kind, listed in CATALOGUED
    if (
        found := re.fullmatch(
            r"(.+)(:(?:thinking|extended)|-(?:thinking|fast|pro|turbo|extended|32k))", listed, re.ASCII
        )
    )
]
BETWEEN = ("-05-20", "-04-17", "-2027-01-01", "-20270101", "@20270101", "-0528", "-preview", ":nitro", "-v1:0")


@given(
    variant=st.sampled_from(VARIANTS),
    between=st.sampled_from(BETWEEN),
    after=st.sampled_from(["", ":floor", "-latest"]),
)
def test_no_date_in_the_middle_of_its_name_makes_a_dearer_variant_cheaper(variant, between, after):
    provider, listed, model, suffix = variant
    own, spelled = price(listed, provider), price(f"{model}{between}{suffix}{after}", provider)
    if own.flag != "unpriced" and spelled.flag:
        assert all(
            one >= other
            for pair in zip(rates(spelled), rates(own), strict=True)
            for one, other in zip(*pair, strict=True)
        )


@pytest.mark.parametrize(
    "called",
    [
        "gemini-2.5-flash-preview-04-17:thinking",
        "google/gemini-2.5-flash-preview-05-20:thinking",
        "google/gemini-2.5-flash-preview-05-20-thinking",
        "gemini-2.5-flash-preview-04-17:thinking:nitro",
    ],
)
def test_a_dated_preview_that_thinks_costs_what_thinking_costs(called):
    assert price(called, "openai").output >= price("google/gemini-2.5-flash-preview:thinking", "openai").output


def test_a_long_name_that_contains_parts_of_all_models_is_priced_at_once():
    """The whole list is compared with it, on the loop."""
    lists = provider_kinds.find("openai").price_lists + provider_kinds.find("openai").guesses
    often = Counter(part for name in named_models.index(lists) for part in name)
    name = "-".join(part for part, _ in often.most_common(100))
    began = time.thread_time()
    list(named_models.within(lists, name))
    assert time.thread_time() - began < 0.02


def test_an_unknown_model_without_a_listed_name_in_it_costs_the_stated_rate_and_one_that_is_refused_stays_so():
    assert price("my-own-model-2027-01-01", "openai").version == "unpriced 30/150"
    with pytest.raises(UnpricedModel):
        pricing.build([], REFUSE).price("openai", "o1-pro-2027-01-01", NOW)


@pytest.mark.parametrize(
    ("provider", "own", "called"),
    [
        ("openai", "o1-pro", "o1-pro-2025-03-19"),
        ("openai", "o1-pro", "o1-pro-2027-01-01"),
        ("openai", "openai/o1-pro", "OpenAI/o1-pro:nitro"),
        ("openai", "gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("anthropic", "claude-opus-5", "claude-opus-5-20260901"),
        ("anthropic", "claude-opus-5", "claude-opus-5-latest"),
        ("anthropic", "claude-opus-4-5", "claude-opus-4.5"),
        ("anthropic", "claude-opus-4-0", "claude-opus-4-20250514"),
        ("bedrock", "us.anthropic.claude-opus-5-v1:0", "us.anthropic.claude-opus-5"),
        ("bedrock", "us.anthropic.claude-opus-5", "us.anthropic.claude-opus-5-20260901-v1:0"),
        ("vertex", "claude-opus-5", "europe-west1/claude-opus-5@20260901"),
    ],
)
def test_no_date_or_spelling_of_a_model_evades_its_own_price(provider, own, called):
    book = pricing.build([row(model="*", id=2), row(model=own)], HIGH_RATE)
    assert price(called, provider, book=book).version == "price 1"


@pytest.mark.parametrize(
    ("provider", "own", "called"),
    [
        ("openai", "o1", "o1-pro"),
        ("openai", "o1-pro-2025-03-19", "o1-pro"),
        ("openai", "o1-pro-2025-03-19", "o1-pro-2027-01-01"),
        ("openai", "gpt-5", "openai/gpt-5"),
        ("openai", "openai/gpt-oss-20b", "openai/gpt-oss-20b:free"),
        ("anthropic", "claude-opus-4", "claude-opus-4-5"),
        ("bedrock", "claude-opus-5", "us.anthropic.claude-opus-5"),
        ("bedrock", "eu.anthropic.claude-opus-5", "us.anthropic.claude-opus-5"),
    ],
)
def test_an_own_price_is_not_that_of_another_model_or_seller(provider, own, called):
    assert price(called, provider, book=pricing.build([row(model=own)], HIGH_RATE)).version != "price 1"
