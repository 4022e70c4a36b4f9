"""What a caller may have a provider do beyond what a request shows at first sight: it is held for, or refused."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from messages_api.request import schema
from messages_api.server.errors import GatewayError
from tests.money.test_ceilings import adds, turns
from tests.support.gateway import ask
from tests.support.reckoned import BOOK, NOW, OPUS, held
from usage.tokens import TokenCounts


@pytest.mark.parametrize("most", [{}, {"max_content_tokens": 1}, {"max_content_tokens": 0}])
def test_a_limit_of_what_is_fetched_lowers_no_hold_because_pdfs_pass_it(most):
    fetch = {"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": 3}
    assert held(tools=[fetch | most]) >= held(tools=[fetch])


def test_a_summary_is_held_besides_the_answer():
    edits = {"edits": [{"type": "compact_20260112", "instructions": "Write down every word."}]}
    long = "Somebody has said something. " * 10_000
    clears = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    clearing = held(system=long, context_management=clears, max_tokens=1)
    for asked in ({"context_management": edits}, {"compaction": {"type": "summarize"}}):
        # The prompt is read once more, and a summary is written: 8,000 tokens at 20 USD for a million.
        assert held(system=long, max_tokens=1, **asked) >= 2 * clearing + Decimal(8_000) * 20 / 1_000_000 - Decimal(
            "0.01"
        )


def test_no_uses_at_all_are_as_many_as_an_allowance_has():
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert held(tools=[search | {"max_uses": 0}]) >= held(tools=[search])


def test_a_crowd_of_fallbacks_of_ours_is_refused():
    with pytest.raises(GatewayError, match="more than 20 models"):
        schema.parse(json.dumps(ask(fallbacks=[f"claude-{number}" for number in range(21)])).encode())
    named = schema.parse(json.dumps(ask(fallbacks=["claude-1"] * 100)).encode())
    assert named.fallbacks == ("claude-1",)


def test_a_crowd_of_the_providers_own_tools_is_refused_and_equal_ones_count_once():
    fetch = {"type": "web_fetch_20260318", "name": "web_fetch"}
    with pytest.raises(GatewayError, match="More than 100 of them run at the provider"):
        schema.parse(json.dumps(ask(tools=[fetch | {"max_uses": 1}] * 101)).encode())
    with pytest.raises(GatewayError, match="More than 100 of them run at the provider"):
        schema.parse(json.dumps(ask(tools=[fetch | {"max_content_tokens": n} for n in range(101)])).encode())
    custom = {"name": "x", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}
    servers = [{"type": "url", "name": "x", "url": "https://example.com"}] * 300
    request = schema.parse(json.dumps(ask(tools=[custom] * 300, mcp_servers=servers)).encode())
    assert [each.kind for each in request.extras.uses] == ["code_execution", "mcp"]
    assert request.extras.server_urls == 300


def test_stored_settings_of_a_reseller_are_refused():
    for name in ("@preset/cheap", "openai/gpt-5@preset/cheap", "openai/gpt-5@PRESET/cheap[1m]"):
        with pytest.raises(GatewayError, match="it may choose a model that the key may not use"):
            schema.parse(json.dumps(ask(model=name)).encode())


@pytest.mark.parametrize("model", ["openai/gpt-5:online[1m]", "openai/gpt-5:ONLINE[1m]", "openai/gpt-5:online@x"])
def test_no_marker_hides_that_a_model_is_to_search(model):
    for members in ({"model": model}, {"fallbacks": [model]}, {"fallbacks": [{"model": model}]}):
        with pytest.raises(GatewayError, match=":online` is not allowed here"):
            schema.parse(json.dumps(ask(**members)).encode())
    assert schema.parse(json.dumps(ask(model="openai/gpt-5:onlineish")).encode()).model == "openai/gpt-5:onlineish"


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "openrouter:web_search"}]},
        {"tools": [{"type": "OpenRouter:web_fetch", "parameters": {}}]},
        {"messages": turns(adds({"type": "openrouter:web_search"}))},
        {"web_search_options": {}},
    ],
)
def test_tools_that_a_reseller_runs_for_a_fee_are_refused(members):
    with pytest.raises(GatewayError, match="no budget covers what they cost"):
        schema.parse(json.dumps(ask(**members)).encode())


@pytest.mark.parametrize(
    "members",
    [
        {"preset": "dear"},
        {"Preset": "dear"},
        {"providerOptions": {"gateway": {"models": ["anthropic/claude-opus-5"]}}},
        {"models": ["anthropic/claude-opus-5"]},
        {"MODELS": ["anthropic/claude-opus-5"]},
        {"context_window_fallbacks": [{"claude-haiku-5-5": ["claude-opus-5-5"]}]},
        {"content_policy_fallbacks": [{"claude-haiku-5-5": ["claude-opus-5-5"]}]},
    ],
)
def test_no_member_of_a_reseller_chooses_another_model(members):
    with pytest.raises(GatewayError, match=r"Not allowed here: (?:it may choose a model|name other models)"):
        schema.parse(json.dumps(ask(**members)).encode())


@pytest.mark.parametrize(
    "members",
    [{"enable_search": True}, {"search_parameters": {"mode": "on"}}, {"Plugins": [{"id": "web"}]}],
)
def test_no_member_of_a_reseller_has_it_search(members):
    with pytest.raises(GatewayError, match="Not allowed here: no budget covers what they cost"):
        schema.parse(json.dumps(ask(**members)).encode())


@pytest.mark.parametrize("name", ["openai/gpt-5:online", "openai/gpt-5@preset/dear"])
def test_an_advisor_searches_no_more_than_the_model(name):
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": name}
    with pytest.raises(GatewayError, match="is not allowed here"):
        schema.parse(json.dumps(ask(tools=[advisor])).encode())


@pytest.mark.parametrize(
    ("kind", "dated"),
    [
        ("web_search", "web_search_20260318"),
        ("web_search_preview", "web_search_20260318"),
        ("Web_Search", "web_search_20260318"),
        ("x_search", "web_search_20260318"),
        ("web_fetch", "web_fetch_20260318"),
        ("web_extract", "web_fetch_20260318"),
    ],
)
def test_a_tool_without_a_date_that_a_vendor_runs_is_held_like_a_dated_one(kind, dated):
    written, like = ([{"type": each, "name": "x"}] for each in (kind, dated))
    uses = schema.parse(json.dumps(ask(tools=written)).encode()).extras.uses
    assert uses == schema.parse(json.dumps(ask(tools=like)).encode()).extras.uses != ()


@pytest.mark.parametrize("kind", ["image_generation", "builtin_function", "reviewer_20990101"])
def test_a_tool_of_an_unknown_type_may_run_at_the_provider(kind):
    servers = [{"type": "url", "name": "x", "url": "https://example.com"}]
    assert held(tools=[{"type": kind, "name": "x"}]) >= held(mcp_servers=servers)


@pytest.mark.parametrize(
    "kind",
    ["bash_20250124", "text_editor_20250728", "computer_20251124", "memory_20250818", "browser_toolset_20260801"],
)
def test_a_tool_that_the_client_runs_is_read_once(kind):
    tool = {"type": kind, "name": "x"}
    assert not schema.parse(json.dumps(ask(tools=[tool])).encode()).extras.uses


def test_the_fast_tier_of_a_reseller_costs_what_fast_mode_costs():
    assert held(service_tier="fast") >= held(speed="fast") > held(service_tier="slow")
    price = BOOK.price("anthropic", OPUS, NOW)
    used = TokenCounts(input_tokens=1000, output_tokens=1000)
    assert price.cost(used, service_tier="fast") == price.cost(used, speed="fast") == 2 * price.cost(used)


def test_a_tier_of_a_reseller_that_no_report_bills_is_refused():
    for tier in ("priority", "Priority", "priority_on_demand", "ultrafast"):
        with pytest.raises(GatewayError, match=r"service_tier: Not allowed here.*Choose auto or standard_only"):
            schema.parse(json.dumps(ask(service_tier=tier)).encode())
    for usual in ("auto", "standard_only", None, "flex"):
        schema.parse(json.dumps(ask(service_tier=usual)).encode())
    assert held(service_tier="FAST") >= held(service_tier="fast")


def test_a_definition_is_held_for_each_reference_to_it():
    tool = {"name": "x", "description": "a" * 100_000, "input_schema": {}, "defer_loading": True}
    reference = {"type": "tool_reference", "tool_name": "x"}

    def read(times):
        result = {"type": "tool_result", "tool_use_id": "1", "content": [reference] * times}
        return held(tools=[tool, {"name": "y", "input_schema": {}}], messages=turns(result, role="user"), max_tokens=1)

    once, often = read(1), read(11)
    assert often - once >= 10 * (once - held(max_tokens=1)) * Decimal("0.95")
    assert read(0) < once < read(0) * Decimal("1.02")
    nothing: list[list[str] | None] = [None, []]
    for tools in nothing:
        held(tools=tools, messages=turns(reference, role="user"))
