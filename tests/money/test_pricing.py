from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from keys import provider_kinds
from usage import pricing
from usage.models import Price
from usage.pricing import UnpricedModel, UnpricedPolicy
from usage.tokens import TokenCounts

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HIGH_RATE = UnpricedPolicy(refuse=False, input=Decimal(30), output=Decimal(150))
REFUSE = UnpricedPolicy(refuse=True, input=Decimal(30), output=Decimal(150))
BOOK = pricing.build([], HIGH_RATE)
MODELS = [model.id for model in pricing.catalogue()["anthropic"].models]
# These have no prices for caches, and the catalogue then counts cached tokens as fresh ones.
WITHOUT_CACHE = {"claude-2", "claude-v1"}

counts = st.integers(0, 2_000_000)


def row(**changes):
    """A row of `Price`, as a mapping."""
    plain = {
        "id": 1,
        "provider": "",
        "model": "claude-*",
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "input": Decimal(1),
        "output": Decimal(2),
        "cache_read": Decimal("0.1"),
        "cache_write_5m": Decimal("1.25"),
        "cache_write_1h": Decimal(2),
        "web_search": Decimal("0.01"),
    }
    return plain | changes


def price(model, provider="anthropic", at=NOW, book=BOOK):
    return book.price(provider, model, at)


def oracle(model, used, at=NOW, context=None):
    """What the catalogue's own arithmetic says."""
    usage = genai_prices.Usage(
        input_tokens=used.prompt_tokens,
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cache_read_input_tokens,
        cache_write_tokens=used.cache_creation_5m_input_tokens + used.cache_creation_1h_input_tokens,
        cache_write_1h_tokens=used.cache_creation_1h_input_tokens,
        web_searches=used.web_search_requests,
    )
    return genai_prices.calc_price(
        usage, model, provider_id="anthropic", genai_request_timestamp=at, price_context=context
    ).total_price


@hypothesis_settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([model for model in MODELS if model not in WITHOUT_CACHE]),
    st.builds(TokenCounts, counts, counts, st.just(0), counts, counts, counts, st.just(0)),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
)
def test_it_agrees_with_the_catalogue_on_every_model(model, used, at):
    assert price(model, at=at).cost(used) == oracle(model, used, at)


@hypothesis_settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["claude-opus-5-5", "claude-fable-5-2", "claude-opus-5", "claude-opus-4-8"]),
    st.builds(TokenCounts, counts, counts, st.just(0), counts, counts, counts, st.integers(0, 20)),
)
def test_it_agrees_with_the_catalogue_on_fast_mode_and_batches(model, used):
    assert price(model).cost(used, speed="fast") == oracle(model, used, context={"speed": "fast"})
    assert price(model).cost(used, service_tier="batch") == oracle(model, used, context={"processing": "batch"})


LIST = """
    claude-fable-5-2    8     10     16    0.2   40
    claude-fable-5-1    10    12.5   20    0.25  50
    claude-mythos-5-1   10    12.5   20    0.25  50
    claude-fable-5      10    12.5   20    1     50
    claude-mythos-5     10    12.5   20    1     50
    claude-opus-5-5     4     5      8     0.20  20
    claude-opus-5       5     6.25   10    0.50  25
    claude-opus-4-8     5     6.25   10    0.50  25
    claude-opus-4-7     5     6.25   10    0.50  25
    claude-opus-4-6     5     6.25   10    0.50  25
    claude-opus-4-5     5     6.25   10    0.50  25
    claude-sonnet-5-5   2     2.5    4     0.10  10
    claude-sonnet-5     2     2.5    4     0.20  10
    claude-sonnet-4-6   3     3.75   6     0.30  15
    claude-sonnet-4-5   3     3.75   6     0.30  15
    claude-haiku-5-5    0.10  0.125  0.20  0.01  0.50
    claude-haiku-4-5    1     1.25   2     0.10  5
"""


@pytest.mark.parametrize("line", LIST.strip().splitlines(), ids=lambda line: line.split()[0])
def test_it_knows_the_list_prices(line):
    model, *expected = line.split()
    found = price(model)
    assert found.flag == ""
    rates = [found.input, found.cache_write_5m, found.cache_write_1h, found.cache_read, found.output]
    assert rates == [Decimal(value) for value in expected]
    assert found.web_search == Decimal("0.01")


def test_it_prices_a_mix_to_the_last_digit():
    used = TokenCounts(
        input_tokens=1234,
        output_tokens=567,
        thinking_tokens=500,
        cache_read_input_tokens=89_012,
        cache_creation_5m_input_tokens=3456,
        cache_creation_1h_input_tokens=789,
        web_search_requests=3,
    )
    # 4936 + 11340 + 17802.4 + 17280 + 6312 millionths of a dollar, and three searches
    assert price("claude-opus-5-5").cost(used) == Decimal("0.0876704")


def test_it_prices_a_whole_request_higher_above_a_tier():
    haiku = price("claude-haiku-5-5")
    assert haiku.cost(TokenCounts(input_tokens=100_000)) == Decimal("0.010")
    assert haiku.cost(TokenCounts(input_tokens=100_001)) == Decimal("0.0500005")
    assert haiku.cost(TokenCounts(input_tokens=1, cache_read_input_tokens=100_000, output_tokens=1000)) == Decimal(
        "0.0075005"
    )


def test_a_tier_looks_at_the_steps_of_a_loop_and_not_at_their_sum():
    haiku, used = price("claude-haiku-5-5"), TokenCounts(input_tokens=300_000)
    assert haiku.cost(used, steps=3) == Decimal("0.030")
    assert haiku.cost(used, steps=2) == Decimal("0.150")


def test_it_halves_batches_but_not_their_searches():
    used = TokenCounts(input_tokens=1_000_000, web_search_requests=1)
    assert price("claude-opus-5-5").cost(used, service_tier="batch") == Decimal("2.01")
    assert price("claude-3-opus-20240229").cost(used, service_tier="batch") == Decimal("7.51")
    assert price("claude-opus-5-5").cost(used, service_tier="batch", speed="fast") == Decimal("2.01")


@pytest.mark.parametrize(
    ("model", "geo", "expected"),
    [
        ("claude-opus-5-5", "us", "4.41"),
        ("claude-opus-4-6", "us", "5.51"),
        ("claude-opus-5-5", "global", "4.01"),
        ("claude-opus-5-5", "US", "4.01"),
        ("claude-opus-5-5", "not_available", "4.01"),
        ("claude-opus-4-5", "us", "5.01"),
        ("claude-opus-4-20250514", "us", "15.01"),
        ("claude-3-5-sonnet-20240620", "us", "3.01"),
    ],
)
def test_it_charges_a_tenth_more_for_us_residency_from_claude_4_6_on(model, geo, expected):
    used = TokenCounts(input_tokens=1_000_000, web_search_requests=1)
    assert price(model).cost(used, inference_geo=geo) == Decimal(expected)


def test_it_doubles_fast_mode_where_no_fast_price_is_known():
    assert price("claude-sonnet-5-5").cost(TokenCounts(input_tokens=1_000_000), speed="fast") == 4
    assert price("claude-opus-5-5").cost(TokenCounts(output_tokens=1_000_000), speed="fast") == 40


@pytest.mark.parametrize(
    ("provider", "model", "flag"),
    [
        ("anthropic", "claude-opus-4-8", ""),
        ("anthropic", "claude-opus-4-8-20260528", ""),
        ("anthropic", "claude-3-opus-latest", ""),
        ("anthropic", "claude-3-5-sonnet-20240620", ""),
        ("anthropic", "claude-sonnet-4-20250514", ""),
        ("anthropic", "claude-opus-5@20260723", ""),
        ("anthropic", "claude-3-opus-xyz", "similar"),
        ("anthropic", "claude-opus-4-50", "similar"),
        ("anthropic", "claude-opus-6", "unpriced"),
        ("anthropic", "made-up", "unpriced"),
        ("anthropic", "", "unpriced"),
        ("bedrock", "us.anthropic.claude-opus-4-6-v1", ""),
        ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", ""),
        ("bedrock", "anthropic.claude-opus-6-v1:0", "unpriced"),
        ("vertex", "claude-haiku-4-5@20251001", ""),
        ("azure", "claude-opus-4-8", ""),
        ("openai", "gpt-4o", ""),
        ("openai", "gpt-4o-2024-08-06", ""),
        ("openai", "anthropic/claude-sonnet-4.6", ""),
        ("openai", "mistral-medium-latest", ""),
        ("openai", "deepseek-chat", ""),
        ("openai", "made-up", "unpriced"),
        ("echo", "claude-opus-5-5", "unpriced"),
    ],
)
def test_a_price_is_flagged_if_it_is_not_the_models_list_price(provider, model, flag):
    found = price(model, provider)
    assert found.flag == flag
    assert found.input > 0
    assert found.output > 0


@pytest.mark.parametrize("model", [each for each in MODELS if pricing.generation(each) >= (3, 0)])
def test_a_claude_has_a_price_at_every_cloud_and_a_tenth_more_in_a_region_since_4_5(model):
    own = price(model)
    factor = Decimal("1.1") if pricing.generation(model) >= (4, 5) else 1
    for provider, name, times in (
        ("azure", model, 1),
        ("vertex", model, 1),
        ("vertex", f"{model}@20260901", 1),
        ("vertex", f"{model}-20260901", 1),
        ("vertex", f"europe-west1/{model}", factor),
        ("bedrock", f"global.anthropic.{model}-v1:0", 1),
        ("bedrock", f"arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.{model}", 1),
        ("bedrock", f"anthropic.{model}-v1:0", factor),
        ("bedrock", f"eu.anthropic.{model}", factor),
        ("bedrock", f"apac.anthropic.{model}-20260901-v1:0", factor),
        ("bedrock", f"arn:aws:bedrock:us-east-1::foundation-model/anthropic.{model}", factor),
    ):
        found = price(name, provider)
        assert found.flag != "unpriced", name
        assert (found.input, found.output) == (own.input * times, own.output * times), name
        assert [start for start, _ in found.tiers] == [start for start, _ in own.tiers] or provider == "vertex"


@pytest.mark.parametrize(
    ("provider", "region", "asked", "answered", "name"),
    [
        ("anthropic", "", "claude-opus-5", "claude-opus-5-20260901", "claude-opus-5-20260901"),
        ("vertex", "global", "claude-opus-5", "claude-opus-5", "claude-opus-5"),
        ("vertex", "eu", "claude-opus-5", "", "eu/claude-opus-5"),
        ("bedrock", "us-east-1", "global.anthropic.claude-opus-5", "claude-opus-5", "global.anthropic.claude-opus-5"),
        ("bedrock", "us-east-1", "eu.anthropic.claude-opus-5", "", "eu.anthropic.claude-opus-5"),
        ("bedrock", "us-east-1", "arn:aws:bedrock:us-east-1:1:application-inference-profile/x", "claude-a", "claude-a"),
    ],
)
def test_a_model_is_sold_by_where_it_was_called(provider, region, asked, answered, name):
    assert provider_kinds.find(provider).sold_as(region, asked, answered) == name


def test_an_own_price_is_for_every_region():
    book = pricing.build([row(provider="vertex", model="claude-opus-5")], HIGH_RATE)
    assert book.price("vertex", "europe-west1/claude-opus-5", NOW).version == "price 1"


def test_it_prices_an_unknown_model_at_the_stated_high_rate():
    found = price("claude-next-7")
    used = TokenCounts(
        input_tokens=1_000_000,
        output_tokens=1_000_000,
        cache_read_input_tokens=1_000_000,
        cache_creation_5m_input_tokens=1_000_000,
        cache_creation_1h_input_tokens=1_000_000,
    )
    assert found.cost(used) == 30 + 150 + 30 + Decimal("37.5") + 60
    assert found.version == "unpriced 30/150"


def test_it_refuses_an_unknown_model_where_the_policy_says_so():
    book = pricing.build([row(provider="echo", model="*")], REFUSE)
    with pytest.raises(UnpricedModel, match="claude-next-7 has no price"):
        book.price("anthropic", "claude-next-7", NOW)
    assert book.price("anthropic", "claude-opus-5-5", NOW).flag == ""
    assert book.price("echo", "anything", NOW).input == 1


def test_it_never_takes_a_catalogue_price_of_nothing():
    free = [model.id for model in pricing.catalogue()["openrouter"].models if model.id.endswith(":free")]
    assert free
    for model in free:
        assert price(model, "openai").input > 0


def test_the_most_specific_own_price_wins_and_then_the_newest():
    rows = [
        row(id=1, model="*", input=Decimal(1)),
        row(id=2, model="claude-*", input=Decimal(2)),
        row(id=3, model="claude-*", provider="anthropic", input=Decimal(3)),
        row(id=4, model="claude-opus-*", provider="anthropic", input=Decimal(4)),
        row(id=5, model="claude-opus-5-5", provider="anthropic", input=Decimal(5)),
        row(id=6, model="claude-opus-5-5", provider="anthropic", input=Decimal(6), valid_from=NOW - timedelta(days=1)),
        row(id=7, model="claude-opus-5-5", provider="anthropic", input=Decimal(7), valid_from=NOW + timedelta(days=1)),
        row(id=8, model="claude-opus-5-5", input=Decimal(8)),
    ]
    random.Random(1).shuffle(rows)
    book = pricing.build(rows, REFUSE)
    assert book.price("anthropic", "claude-opus-5-5", NOW).version == "price 6"
    assert book.price("anthropic", "claude-opus-5-5", NOW + timedelta(days=1)).version == "price 7"
    assert book.price("anthropic", "claude-opus-5-5", NOW - timedelta(days=2)).version == "price 5"
    assert book.price("anthropic", "claude-opus-5", NOW).version == "price 4"
    assert book.price("anthropic", "claude-haiku-5-5", NOW).version == "price 3"
    assert book.price("bedrock", "claude-haiku-5-5", NOW).version == "price 2"
    assert book.price("bedrock", "claude-opus-5-5", NOW).version == "price 8"
    assert book.price("openai", "gpt-4o", NOW).version == "price 1"


def test_an_own_price_stacks_with_batches_residency_and_fast_mode():
    book = pricing.build([row(provider="anthropic", input=Decimal(10))], REFUSE)
    used = TokenCounts(input_tokens=1_000_000)
    found = book.price("anthropic", "claude-opus-5-5", NOW)
    assert found.cost(used, service_tier="batch") == 5
    assert found.cost(used, inference_geo="us") == 11
    assert found.cost(used, speed="fast") == 20


def test_it_follows_a_price_that_changes_with_time():
    march = datetime(2026, 3, 13, tzinfo=UTC)
    used = TokenCounts(input_tokens=300_000)
    for _ in range(2):  # the second time from memory
        assert price("claude-opus-4-6", at=march - timedelta(microseconds=1)).cost(used) == 3
        assert price("claude-opus-4-6", at=march).cost(used) == Decimal("1.5")


def test_it_follows_a_price_that_changes_with_the_time_of_day():
    deepseek = pricing.catalogue()["deepseek"]
    dated = [model for model in deepseek.models if isinstance(model.prices, list)]
    assert dated
    for model in dated:
        for hour in range(0, 72):
            at = datetime(2025, 6, 1, tzinfo=UTC) + timedelta(minutes=30 * hour)
            expected = model.get_prices(at).input_mtok
            found = BOOK.price("openai", model.id, at)
            if found.version.endswith(f"deepseek/{model.id}"):
                assert found.input == expected


def test_a_cost_has_at_most_twelve_places():
    book = pricing.build([row(input=Decimal("0.123457"))], REFUSE)
    cost = book.price("anthropic", "claude-opus-5-5", NOW).cost(
        TokenCounts(input_tokens=1), service_tier="batch", inference_geo="us"
    )
    assert cost == Decimal("0.000000067901")


def test_its_memory_is_bounded_and_quick():
    book = pricing.build([], HIGH_RATE)
    for number in range(book.CACHED + 10):
        book.price("echo", f"model-{number}", NOW)
    book.price("echo", "x" * 10_000, NOW)
    assert len(book.known) <= book.CACHED
    assert book.price("anthropic", "claude-opus-5-5", NOW) is book.price("anthropic", "claude-opus-5-5", NOW)


@pytest.mark.django_db
def test_it_loads_the_own_prices_from_the_database():
    Price.objects.create(
        model="claude-opus-5-5",
        input=9,
        output=9,
        cache_read=9,
        cache_write_5m=9,
        cache_write_1h=9,
        valid_from=NOW - timedelta(days=1),
    )
    book = pricing.load_price_book()
    assert book.price("anthropic", "claude-opus-5-5", NOW).input == 9
    assert book.price("echo", "echo-1", NOW).version.startswith("price ")
