"""No spelling of a model's name, and no date or suffix in it, makes the model cheaper than it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import provider_kinds
from tests.money.test_pricing import HIGH_RATE, NOW, REFUSE, price, row
from usage import pricing
from usage.pricing import UnpricedModel

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
