"""The prices of categories add up to what a call costs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from billing.categories import Mode, UnitPrices, price_lengths
from usage.pricing import PriceBook, UnpricedPolicy
from usage.splits import PLACES
from usage.tokens import TokenCounts

AT = datetime(2026, 11, 2, 10, tzinfo=UTC)
BOOK = PriceBook((), UnpricedPolicy(refuse=False, input=Decimal(100), output=Decimal(500)))
MODELS = st.sampled_from(
    [
        ("anthropic", "claude-opus-5-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-haiku-5-5"),
        ("anthropic", "no-such-model"),
        ("openai", "gpt-5"),
        ("openai", "gpt-6-astra"),
        ("vertex", "gemini-2.5-pro"),
    ]
)
SOME = st.integers(0, 300_000)
COUNTS = st.builds(TokenCounts, SOME, SOME, st.just(0), SOME, SOME, SOME, st.integers(0, 3))


@given(
    MODELS,
    COUNTS,
    st.sampled_from(["", "standard", "batch", "priority", "flex"]),
    st.sampled_from(["", "fast"]),
    st.sampled_from(["", "us"]),
)
def test_categories_add_up_to_the_price_of_a_call(
    model: tuple[str, str], counts: TokenCounts, tier: str, speed: str, geo: str
) -> None:
    price = BOOK.price(*model, AT)
    steps = 1 + counts.web_search_requests
    whole = price.cost(counts, service_tier=tier, speed=speed, inference_geo=geo, steps=steps)
    length = counts.prompt_tokens // steps
    # The group that a statement's query puts the call in stands for its length.
    longest = max((each + 1 for each in price_lengths() if each < length), default=0)
    with localcontext(prec=60):
        split = UnitPrices(price, price).net(counts, Mode(longest, tier, speed, geo), 0)
    assert abs(split - whole) < PLACES
