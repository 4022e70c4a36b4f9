"""What a provider charges besides tokens that it reports is in the price of a model, and so in holds and costs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.settlement import bill
from messages_api.request.estimates import NO_EXTRAS, Estimate
from tests.money.test_price_rows import NOW, book, price_row, whole
from tests.money.test_pricing import price
from tests.support.reckoned import ALLOWANCES
from usage.price_rows import COST
from usage.tokens import TokenCounts

# The least that a call of each costs at its provider, in USD for a thousand (OpenAI's, OpenRouter's and Perplexity's
# price lists, November 2026).
FEES = {
    "sonar": 12,
    "sonar-pro": 14,
    "perplexity/sonar": 12,
    "perplexity/sonar-reasoning-pro:nitro": 14,
    "perplexity/sonar-deep-research": 1000,
    "gpt-4o-search-preview": 25,
    "openai/gpt-4o-mini-search-preview": 35,
    "gpt-4o-search-preview-2025-03-11": 25,
    "gpt-5-search-api": 10,
    "o4-mini-deep-research": 1000,
    "gpt-4o-mini-search-preview": 25,
    "gpt-4o-mini-search-preview-2025-03-11": 25,
    "gpt-7-search-api": 10,
    "sonar-ultra": 14,
    "groq/compound": 80,
    "compound-beta-mini": 8,
}


@pytest.mark.parametrize(("model", "thousand"), FEES.items())
def test_a_model_that_always_searches_costs_its_fee_however_few_its_tokens(model: str, thousand: int) -> None:
    found = price(model, "openai")
    fee = Decimal(thousand) / 1000
    held = Estimate(10, 20, writes=False, hour_writes=False).ceiling_cost(
        1, found, allowances=ALLOWANCES, extras=NO_EXTRAS
    )
    assert held >= fee
    steps = [Iteration("message", "", TokenCounts(input_tokens=7, output_tokens=1))]
    reading = Reading(model=model, stop_reason="end_turn")
    billed = bill(
        steps, reading, provider="openai", model=model, at=NOW, asked=found, prices=lambda kind, name, at: found
    )
    assert billed["cost"] >= fee


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "claude-opus-5-5", "deepseek-chat", "o4-mini", "sonarqube"])
def test_other_models_have_no_fee(model: str) -> None:
    assert not price(model, "openai").flat


@pytest.mark.parametrize(
    ("model", "output"),
    [("gemini-2.5-flash-image", 30), ("gemini-3-pro-image-preview", 120), ("gpt-image-1.5", 32)],
)
def test_output_that_may_be_pictures_costs_what_pictures_cost(model: str, output: int) -> None:
    assert price(model, "openai").output == output


def test_a_whole_price_of_a_contract_replaces_a_fee_of_the_list_if_it_has_one() -> None:
    rates = price_row(sets=COST, provider="openai", model="sonar", rates=whole("1"), flat=Decimal("0.005"))
    assert book(rates).price("openai", "sonar", NOW).flat == Decimal("0.005")
    without = price_row(sets=COST, provider="openai", model="sonar", rates=whole("1"))
    assert book(without).price("openai", "sonar", NOW).flat == Decimal("0.012")


@pytest.mark.parametrize(("model", "writes"), [("gpt-6-sol", True), ("gpt-5.6-luna", True), ("gpt-4o", False)])
def test_a_provider_that_caches_by_itself_is_held_at_the_price_of_a_write(model: str, writes: bool) -> None:
    found = price(model, "openai")
    held = Estimate(750_000, 1_000_000, writes=False, hour_writes=False).ceiling_cost(
        0, found, allowances=ALLOWANCES, extras=NO_EXTRAS
    )
    rates = found.at(1_000_000)
    assert held == (rates.cache_write_5m if writes else rates.input)


@pytest.mark.parametrize("model", ["claude-opus-5-5", "anthropic/claude-opus-4.6", "claude-3-5-haiku-latest"])
def test_claude_writes_to_a_cache_only_what_is_marked(model: str) -> None:
    assert not price(model, "anthropic").writes
    assert not price(model, "openai").writes
