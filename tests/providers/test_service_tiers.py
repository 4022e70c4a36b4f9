"""The service tier that an OpenAI-compatible provider served: its price, and what the client and the ledger get of
it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.support.fake_provider import pieces, whole
from tests.support.gateway import post, row, rows
from tests.support.openai_events import decode
from tests.support.openai_provider import DONE, USAGE, ask_gpt, chunk, completion, issue_openai
from usage import pricing
from usage.price_rows import COST, PRICE_COLUMNS
from usage.rates import RATES
from usage.tokens import TokenCounts

NOW = datetime.now(UTC)
# GPT-5's price for a million tokens of input, cached input and output, as of November 2026:
# https://platform.openai.com/docs/pricing and https://openai.com/api-fast-mode/.
STANDARD = (Decimal("1.25"), Decimal("0.125"), Decimal(10))
FLEX = (Decimal("0.625"), Decimal("0.0625"), Decimal(5))
PRIORITY = (Decimal("2.5"), Decimal("0.25"), Decimal(20))


def times(factor: Any) -> tuple[Decimal, ...]:
    return tuple(rate * factor for rate in STANDARD)


def cost_of(rates: tuple[Decimal, ...]) -> Decimal:
    """36 tokens read, 64 from the cache, 7 written (USAGE)."""
    return (36 * rates[0] + 64 * rates[1] + 7 * rates[2]).scaleb(-6)


def spoken(tier: Any, form: str) -> Any:
    """An answer that was served in a tier: in one piece, or a stream that says so from the beginning or at the end."""
    if form == "json":
        return whole(200, completion("Hi", model="gpt-5", service_tier=tier))
    early = {"service_tier": tier} if form == "stream" else {"service_tier": "auto"}
    return pieces(
        200,
        [
            chunk({"role": "assistant", "content": "Hi"}, model="gpt-5", **early),
            chunk({}, "stop", model="gpt-5", service_tier=tier),
            chunk(usage=USAGE, model="gpt-5", service_tier=tier),
            DONE,
        ],
    )


def heard(body: bytes, form: str) -> dict[str, Any]:
    """The usage that the caller gets; later reports replace earlier ones."""
    if form == "json":
        told: dict[str, Any] = json.loads(body)["usage"]
        return told
    events = dict(decode(body))
    usage: dict[str, Any] = events["message_start"]["message"]["usage"] | events["message_delta"]["usage"]
    return usage


@pytest.mark.parametrize(
    ("tier", "told", "rates", "flag"),
    [
        ("default", "standard", STANDARD, ""),
        ("flex", None, FLEX, ""),
        ("priority", "priority", PRIORITY, ""),
        ("fast", "priority", PRIORITY, ""),
        ("batch", "batch", FLEX, ""),
        ("scale", None, STANDARD, "unpriced"),
        ("ultrafast", None, times(6), "unpriced"),
        ("one that is new", None, times(6), "unpriced"),
    ],
)
@pytest.mark.parametrize("form", ["json", "stream", "late"])
def test_the_tier_that_served_is_what_it_costs(web, upstream, served, tier, told, rates, flag, form):
    caller = issue_openai(upstream)
    upstream.answer = spoken(tier, form)
    answer = post(web, caller.key, ask_gpt(model="gpt-5", stream=form != "json"))
    usage = heard(answer.content, form)
    assert (usage["service_tier"], usage["provider_service_tier"]) == (told, tier)
    assert (row().service_tier, row().cost, row().price_flag) == (tier, cost_of(rates), flag)
    assert not row().estimated


@pytest.mark.parametrize("tier", [None, "auto", 7, ""])
def test_an_answer_without_a_tier_has_the_standard_tier(web, upstream, served, tier):
    caller = issue_openai(upstream)
    upstream.answer = spoken(tier, "json")
    usage = post(web, caller.key, ask_gpt(model="gpt-5")).json()["usage"]
    assert usage["service_tier"] == "standard"
    assert "provider_service_tier" not in usage
    assert (row().service_tier, row().cost, row().price_flag) == ("standard", cost_of(STANDARD), "")


def test_a_tier_without_a_price_costs_at_least_its_real_price(web, upstream, served):
    caller = issue_openai(upstream)
    upstream.answer = whole(200, completion("Hi", model="gpt-5-pro", service_tier="priority"))
    assert post(web, caller.key, ask_gpt(model="gpt-5-pro")).status_code == 200
    price = pricing.build([]).price("openai", "gpt-5-pro", NOW)
    used = TokenCounts(input_tokens=36, cache_read_input_tokens=64, output_tokens=7)
    assert (row().cost, row().price_flag) == (price.cost(used) * Decimal("2.5"), "unpriced")
    assert row().price_version.endswith("gpt-5-pro, priority x 2.5")


def test_a_hold_covers_the_dearest_tier_that_was_asked_for(web, upstream, served):
    caller = issue_openai(upstream)
    upstream.answer = spoken("priority", "json")
    for asked in ("standard_only", "auto"):
        assert post(web, caller.key, ask_gpt(model="gpt-5", service_tier=asked)).status_code == 200
    less, more = sorted(entry.held for entry in rows(2))
    assert more > less * Decimal("1.9")


def test_an_own_price_is_as_much_dearer_or_cheaper_in_a_tier_as_the_list_says():
    own = dict.fromkeys(PRICE_COLUMNS) | dict.fromkeys((*RATES, "web_search"), Decimal(3))
    row = own | {"id": 1, "sets": COST, "provider": "openai", "model": "gpt-5", "valid_from": NOW - timedelta(days=1)}
    price = pricing.build([row]).price("openai", "gpt-5", NOW)
    used = TokenCounts(input_tokens=1_000_000, output_tokens=1_000_000)
    costs = {tier: price.cost(used, service_tier=tier) for tier in ("default", "flex", "priority", "scale")}
    assert costs == {"default": 6, "flex": 3, "priority": 12, "scale": 6}
    assert [price.for_tier(tier).flag for tier in costs] == ["", "", "", "unpriced"]


def test_tiers_of_the_catalogue_are_what_it_says():
    book, used = pricing.build([]), TokenCounts(input_tokens=300_000, output_tokens=1000)
    found = set()
    for model in pricing.catalogue()["openai"].models:
        for variant in model.price_variants or ():
            tier = variant.when.get("service_tier", "")
            if len(variant.when) != 1 or tier in pricing.STANDARD_TIERS:
                continue
            price = book.price("openai", model.id, NOW)
            if price.flag:
                continue
            oracle = model.calc_price(
                {"input_tokens": 300_000, "output_tokens": 1000},
                pricing.catalogue()["openai"],
                genai_request_timestamp=NOW,
                price_context={"service_tier": tier},
            )
            assert price.cost(used, service_tier=tier) == oracle.total_price, (model.id, tier)
            found.add(tier)
    assert found >= {"flex", "priority", "fast"}


def test_a_tier_had_no_price_of_its_own_before_the_catalogue_says_so():
    price = pricing.build([]).price("openai", "gpt-5", datetime(2026, 10, 1, tzinfo=UTC))
    assert price.for_tier("priority").flag == "unpriced"
    assert price.for_tier("priority").output == 25


def test_anthropics_priority_costs_what_the_standard_does():
    price = pricing.build([]).price("anthropic", "claude-opus-5-5", NOW)
    used = TokenCounts(input_tokens=1_000_000)
    assert price.cost(used, service_tier="priority") == price.cost(used) == 4
    assert price.for_tier("priority") is price
