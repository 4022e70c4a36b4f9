"""What is held for a call covers its cost: at the dearest model that it may mean, and what can't be seen by an
allowance."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.models import ModelAlias, VirtualKey
from messages_api.answer import settlement
from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import JsonMeter
from messages_api.json_text import byte_edits
from messages_api.process import allowances
from messages_api.process.allowances import Allowance
from messages_api.request import batch_body, schema
from messages_api.request.estimates import NO_EXTRAS, estimate
from messages_api.request.text_tokens import tokens_of_text
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, refused
from tests.support.reckoned import ALLOWANCES, BOOK, FABLE, HAIKU, NOW, OPUS, ceiling, contents, held, reckoned
from tests.support.recordings import needs_recordings, recordings, used
from usage import pricing
from usage.models import Hold


def cost(recording):
    meter = StreamMeter() if recording.streams else JsonMeter()
    if isinstance(meter, StreamMeter):
        meter.feed(recording.body)
        meter.finish()
    else:
        meter.read(recording.body)
    model = meter.reading.model or recording.request["model"]
    return settlement.bill(
        meter.reading.iterations(reckoned(recording.request_body)[1].hour_writes),
        meter.reading,
        provider="anthropic",
        model=model,
        at=NOW,
        asked=BOOK.price("anthropic", model, NOW),
        prices=BOOK.price,
    )["cost"]


@needs_recordings
def test_every_recorded_call_cost_no_more_than_was_held():
    seen = set()
    for recording in recordings():
        if recording.status == 200:
            assert ceiling(recording.request_body) >= cost(recording), recording.name
            request = recording.request
            seen |= {tool.get("type") for tool in request.get("tools") or ()} | request.keys()
    # What is dearer than it looks is among them.
    assert {"advisor_20260301", "web_search_20250305", "web_fetch_20260209", "context_management"} <= seen


@needs_recordings
def test_what_every_recorded_call_read_is_covered_without_what_is_held_for_its_answer():
    compared = 0
    for recording in recordings():
        counts = used(recording)
        if recording.status != 200 or not recording.has_request:
            continue
        request, counted = reckoned(recording.request_body)
        prompt = sum(counts[name] for name in counts if name.startswith(("input", "cache")))
        assert counted.prompt(request.max_tokens, request.extras, ALLOWANCES).tokens >= prompt, recording.name
        compared += 1
    assert compared > 200


@needs_recordings
def test_a_call_without_extras_is_not_held_dearer_than_its_own_model():
    for recording in recordings():
        request, counted = reckoned(recording.request_body)
        if request.extras == NO_EXTRAS and not counted.references:
            price = BOOK.price("anthropic", request.model, NOW)
            write = max(price.at(counted.ceiling).cache_write_1h, price.at(counted.ceiling).input)
            most = (write * counted.ceiling + price.at(counted.ceiling).output * request.max_tokens).scaleb(-6)
            assert ceiling(recording.request_body) <= most


def test_a_fallback_is_held_at_the_dearest_model_with_one_more_reading_of_the_prompt():
    plain, dear = held(model=HAIKU), held(model=HAIKU, fallbacks=[{"model": FABLE}])
    assert dear >= held(model=FABLE, metadata={"trace": "fallbacks"}) > plain
    assert held(model=FABLE, fallbacks=[{"model": HAIKU}]) >= dear * Decimal("0.99")


def test_a_fallback_that_may_write_more_is_held_for_it():
    longer = held(model=OPUS, max_tokens=10, fallbacks=[{"model": OPUS, "max_tokens": 100_000}])
    assert longer >= held(model=OPUS, max_tokens=100_000)


def test_default_fallbacks_are_held_at_the_dearest_of_the_newest_generations():
    dearest = max(BOOK.price("anthropic", model, NOW).output for model in pricing.current_models())
    assert dearest == BOOK.price("anthropic", FABLE, NOW).output
    assert held(model=HAIKU, fallbacks="default") >= held(model=FABLE)


def test_our_own_fallbacks_are_not_tried_yet_and_hold_nothing_more():
    ours = json.dumps(ask(model=HAIKU, fallbacks=[FABLE])).encode()
    assert ceiling(byte_edits.apply(ours, byte_edits.cut(ours, "fallbacks"))) == held(model=HAIKU)


def test_an_advisor_is_held_at_its_own_model_for_each_use():
    def with_advisor(**members):
        return held(model=HAIKU, tools=[{"type": "advisor_20260301", "name": "advisor", "model": FABLE, **members}])

    assert with_advisor() >= held(model=FABLE, max_tokens=64 + 3 * 2000)
    assert with_advisor(max_uses=1) < with_advisor() < with_advisor(max_uses=9)
    assert with_advisor(max_tokens=50_000) >= held(model=FABLE, max_tokens=64 + 3 * 50_000)


def test_fast_mode_is_held_at_its_price():
    assert held(speed="fast") >= 2 * held()
    assert held(speed="standard") < held() * Decimal("1.5")
    assert held(fallbacks=[{"model": OPUS, "speed": "fast"}]) >= 2 * held()


def test_residency_is_held_at_its_price():
    assert held(inference_geo="us") == held(inference_geo="xx") * Decimal("1.1")


def test_searches_are_held_by_their_number():
    def searching(**members):
        return held(tools=[{"type": "web_search_20250305", "name": "web_search", **members}])

    assert searching(max_uses=1) < searching(max_uses=3) < searching() <= searching(max_uses=None)
    assert searching(max_uses=1) >= held() + Decimal("0.01") + Decimal(12_000 * 4) / 1_000_000


def adds(tool, **members):
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}, **members}


def turns(*blocks, role="system"):
    return [*ask()["messages"], {"role": role, "content": list(blocks)}]


def with_summary(*changes):
    return {"type": "compaction", "content": "So far.", "tool_changes": list(changes)}


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 40}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": FABLE, "max_uses": 2}
HINT = {"type": "text", "text": "You may look things up."}
# Where a request may define a tool besides its `tools`.
DEFINED = {
    "a system turn": lambda tool: {"messages": turns(HINT, adds(tool))},
    "another turn": lambda tool: {"messages": turns(adds(tool), role="user")},
    "a compaction": lambda tool: {"messages": turns(with_summary(adds(tool)), role="assistant")},
    "a block in a block": lambda tool: {"messages": turns({"type": "mid_conv_system", "content": [adds(tool)]})},
    "a block in an unknown one": lambda tool: {"messages": turns({"type": "new_kind", "content": adds(tool)})},
    "the system prompt": lambda tool: {"system": [HINT, adds(tool)]},
}


@pytest.mark.parametrize("tool", [SEARCH, ADVISOR, {"name": "x", "input_schema": {}, "allowed_callers": ["code"]}])
@pytest.mark.parametrize("place", DEFINED)
def test_a_tool_has_the_same_hold_in_each_place_where_it_may_be_defined(place, tool):
    said = DEFINED[place](tool)
    usual = schema.parse(json.dumps(ask(tools=[tool])).encode())
    for spelling in (json.dumps(ask() | said), json.dumps(ask() | said).replace("tool_", r"t\u006fol_")):
        body = spelling.encode()
        request = schema.parse(body)
        assert (request.extras, request.added) == (usual.extras, usual.added)
        assert schema.parse(body, counting=True).extras.models == usual.extras.models
        assert ceiling(body) >= held(tools=[tool])
    line = json.dumps({"requests": [{"custom_id": "one", "params": ask() | said}]}).encode()
    with tempfile.TemporaryFile() as edited:
        (asked,) = batch_body.read(line, edited.fileno(), signatures=False).asked
    assert asked.extras == usual.extras


def test_tools_of_turns_are_held_for_besides_the_others_and_each_once():
    other = SEARCH | {"max_uses": 3}
    said = {"tools": [ADVISOR], "messages": turns(adds(SEARCH), HINT, adds(SEARCH), adds(other))}
    request = schema.parse(json.dumps(ask() | said).encode())
    assert [(use.kind, use.times) for use in request.extras.uses] == [
        ("advisor", 2),
        ("web_search", 40),
        ("web_search", 3),
    ]
    assert request.extras.models == (FABLE,)


@pytest.mark.parametrize(
    "block",
    [
        adds(None),
        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "definition"}},
        {"type": "tool_addition", "tool": "definition"},
        {"type": "tool_addition"},
        {"type": "text", "text": json.dumps(adds(SEARCH))},
        {"type": "tool_use", "id": "toolu_1", "name": "x", "input": adds(SEARCH)},
        {"type": "new_kind", "content": "tool_addition", "definition": SEARCH},
    ],
)
def test_a_block_without_a_definition_adds_no_tool_to_the_hold(block):
    assert schema.parse(json.dumps(ask(messages=turns(block, role="assistant"))).encode()).extras is NO_EXTRAS


def test_a_tool_within_very_many_lists_is_looked_for_in_no_time():
    deep = f"{'[' * 900}{json.dumps([adds(SEARCH)] * 20_000)}{']' * 900}"
    body = json.dumps(ask(messages=turns({"type": "new_kind", "content": 0}))).replace("0}]}", deep + "}]}", 1)
    began = time.process_time()
    assert schema.parse(body.encode()).extras is NO_EXTRAS
    assert time.process_time() - began < 5


def test_between_uses_of_a_tool_that_a_turn_defines_a_model_may_think_for_longer():
    thinking = {"type": "enabled", "budget_tokens": 4096}
    assert schema.parse(json.dumps(ask(thinking=thinking, messages=turns(adds(SEARCH)))).encode()).thinking_budget


def test_compaction_reads_the_prompt_once_more():
    edited = held(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}, system="a" * 40_000)
    compacted = held(context_management={"edits": [{"type": "compact_20260112"}]}, system="a" * 40_000)
    once = held(context_management={"edits": []}, system="a" * 40_000) - Decimal(64 * 20) / 1_000_000
    assert once > Decimal(10_000 * 4) / 1_000_000
    assert compacted - edited >= once


def test_a_file_or_page_that_is_only_named_is_an_allowance():
    sources = [{"type": "file", "file_id": "file_1"}, {"type": "url", "url": "https://example.com/report.pdf"}]
    for source in sources:
        content = [{"type": "document", "source": source}]
        named = held(messages=[{"role": "user", "content": content}])
        assert named >= held() + Decimal(20_000 * 4) / 1_000_000


def test_an_mcp_server_is_an_allowance_of_its_own():
    server = {"type": "url", "name": "wiki", "url": "https://mcp.example.com"}
    assert held() + Decimal(5 * 4_000 * 4) / 1_000_000 < held(mcp_servers=[server]) < Decimal("0.5")


def test_an_mcp_server_without_a_url_hides_no_page():
    page = {"type": "document", "source": {"type": "url", "url": "https://example.com/report.pdf"}}
    named = [{"role": "user", "content": [page]}]
    server = {"type": "tunnel", "name": "wiki"}
    assert held(messages=named, mcp_servers=[server]) > held(mcp_servers=[server]) + Decimal(20_000 * 4) / 1_000_000


@pytest.mark.parametrize(("ttl", "times"), [("5m", Decimal("1.24")), ("1h", Decimal("1.98"))])
def test_what_an_advisor_writes_to_a_cache_is_held_at_the_price_of_a_write(ttl, times):
    text = "a" * 400_000
    caching = ADVISOR | {"caching": {"type": "ephemeral", "ttl": ttl}}
    assert held(system=text, tools=[caching]) > held(system=text, tools=[ADVISOR]) * times * Decimal("0.95")


def test_tools_without_a_number_of_uses_share_one_loop():
    search = {"type": "web_search_20250305", "name": "web_search"}
    fetch = {"type": "web_fetch_20260209", "name": "web_fetch"}
    assert held(tools=[search]) < held(tools=[search, fetch]) < held(tools=[search]) + held(tools=[fetch])
    assert held(tools=[fetch | {"max_content_tokens": 90_000}]) > held(tools=[fetch])


def test_allowances_are_what_the_deployment_says():
    given = allowances.read("web_search=2x100, file=1x0")
    assert (given["web_search"], given["file"]) == (Allowance(2, 100), Allowance(1, 0))
    assert given["mcp"] == ALLOWANCES["mcp"]
    for wrong in ("web_search", "web_search=2", "surfing=1x1", "web_search=-1x1", "a,b"):
        with pytest.raises(ValueError, match="the kinds are web_search"):
            allowances.read(wrong)


# What is reckoned from bytes


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one, other):
    short, long = one.encode("utf-8", "replace"), (one + other).encode("utf-8", "replace")
    assert tokens_of_text(short) <= tokens_of_text(long)


def test_newer_models_count_more_tokens_than_older_ones():
    body = contents(ask("x" * 10_000))
    for older in ("claude-3-5-haiku-latest", "claude-sonnet-4-20250514", "claude-opus-4-6", "claude-2.1"):
        for newer in ("claude-opus-4-7", "claude-sonnet-5", "claude-fable-5-1", "gpt-5", "claude-sonnet-40"):
            assert estimate(body, older).ceiling * 1.3 < estimate(body, newer).ceiling, (older, newer)


def test_each_fallback_may_write_as_much_as_the_answer_itself():
    another = [{"model": HAIKU, "max_tokens": 50_000}]
    alone, one, two = (
        held(max_tokens=50_000, **more) for more in ({}, {"fallbacks": another}, {"fallbacks": another * 2})
    )
    output = BOOK.price("anthropic", OPUS, NOW).output * 50_000 / 10**6
    assert one - alone >= output
    assert two - alone >= 2 * output


finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(st.none(), st.integers(), finite, st.text(max_size=3), st.booleans())

KINDS = ["advisor_20260301", "web_search_20250305", "web_fetch_20260209"]


@given(numbers, numbers, st.sampled_from(KINDS))
def test_the_ceiling_is_a_number_for_any_max_uses_of_a_tool(uses, tokens, kind):
    tool = {"type": kind, "model": FABLE, "max_uses": uses, "max_tokens": tokens}
    assert held() < held(tools=[tool])


def test_a_tool_that_says_absurd_things_of_itself_is_held_for_and_does_no_harm(web, alice, upstream):
    upstream.answer = whole(200, message())
    absurd = 10**40
    tools = [{"type": kind, "name": "x", "model": FABLE, "max_uses": absurd, "max_tokens": absurd} for kind in KINDS]
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(tools=tools * 20), headers=credentials(alice.key))
    assert answer.status_code == 200, answer.text


def test_the_hold_in_the_database_is_at_the_dearest_model(web, alice, upstream):
    going = threading.Event()
    upstream.answer = [going, *whole(200, message())]
    body = json.dumps(ask(model=HAIKU, fallbacks=[{"model": FABLE}])).encode()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(CLIENT.post, web.url + "/v1/messages", content=body, headers=credentials(alice.key))
        try:
            upstream.wait_for()
            assert Hold.objects.get().ceiling == ceiling(body, at=datetime.now(UTC))
        finally:
            going.set()
        assert answer.result().status_code == 200


@pytest.mark.parametrize("by", ["request", "alias"])
def test_the_hold_counts_as_many_tokens_as_the_newest_model_that_may_answer(web, alice, upstream, by):
    older, newer, text = "claude-opus-4-5", "claude-opus-5", "a" * 100_000
    members = {"fallbacks": [newer]} if by == "request" else {}
    if by == "alias":
        ModelAlias.objects.create(name=older, target=newer)
    going = threading.Event()
    upstream.answer = [going, *whole(200, message())]
    body = json.dumps(ask(model=older, system=text) | members).encode()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(CLIENT.post, web.url + "/v1/messages", content=body, headers=credentials(alice.key))
        try:
            upstream.wait_for()
            assert Hold.objects.get().ceiling >= held(model=newer, system=text)
        finally:
            going.set()
        assert answer.result().status_code == 200


def test_a_key_may_use_a_model_as_a_fallback_or_advisor_only_if_it_may_use_it_at_all(web, alice, upstream):
    VirtualKey.objects.update(denied_models=["*fable*"])
    asked: list[dict[str, Any]] = [{"fallbacks": [{"model": OPUS}, {"model": FABLE}]}, {"tools": [ADVISOR]}]
    for members in (*asked, *(define(ADVISOR) for define in DEFINED.values())):
        answer = CLIENT.post(web.url + "/v1/messages", json=ask() | members, headers=credentials(alice.key))
        assert FABLE in refused(answer, 403, "permission_error")
    assert not upstream.seen


def test_a_request_that_names_a_crowd_of_models_is_refused():
    crowd = [{"model": f"claude-{number}"} for number in range(21)]
    with pytest.raises(GatewayError, match="more than 20 models"):
        held(fallbacks=crowd)
