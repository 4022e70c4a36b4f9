"""What is held for a call covers what it comes to: at the dearest model that it may mean, and what can't be seen by an
allowance."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.models import VirtualKey
from messages_api import schema, settlement
from messages_api.errors import GatewayError
from messages_api.estimates import NO_EXTRAS, estimate
from messages_api.metering import JsonMeter, StreamMeter
from tests.gateway import CLIENT, ask, credentials, message, refused
from tests.recordings import needs_recordings, recordings
from tests.upstream import whole
from usage import pricing
from usage.models import Hold
from usage.pricing import UnpricedPolicy

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BOOK = pricing.build([], UnpricedPolicy(refuse=False, input=Decimal(30), output=Decimal(150)))
OPUS, HAIKU, FABLE = "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-1"


def ceiling(body, at=NOW):
    request = schema.parse(body)
    models = [request.model, *request.extras.models]
    if request.extras.default_fallbacks:
        models += pricing.current_models()
    prices = [BOOK.price("anthropic", model, at) for model in models]
    return estimate(body).ceiling_cost(request.max_tokens, *prices, extras=request.extras)


def held(**members):
    return ceiling(json.dumps(ask() | members).encode())


def cost(recording):
    meter = StreamMeter() if recording.streams else JsonMeter()
    if isinstance(meter, StreamMeter):
        meter.feed(recording.body)
        meter.finish()
    else:
        meter.read(recording.body)
    model = meter.reading.model or recording.request["model"]
    return settlement.bill(
        meter.reading.iterations(estimate(recording.request_body).hour_writes),
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
def test_a_call_without_extras_is_not_held_dearer_than_its_own_model():
    for recording in recordings():
        request = schema.parse(recording.request_body)
        if request.extras == NO_EXTRAS:
            price = BOOK.price("anthropic", request.model, NOW)
            counted = estimate(recording.request_body)
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
    assert ceiling(schema.without(ours, "fallbacks")) == held(model=HAIKU)


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


def test_compaction_reads_the_prompt_once_more():
    edited = held(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}, system="a" * 40_000)
    compacted = held(context_management={"edits": [{"type": "compact_20260112"}]}, system="a" * 40_000)
    assert compacted >= edited + Decimal(20_000 * 4) / 1_000_000


finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(st.none(), st.integers(), finite, st.text(max_size=3), st.booleans())


KINDS = ["advisor_20260301", "web_search_20250305", "web_fetch_20260209"]


@given(numbers, numbers, st.sampled_from(KINDS))
def test_whatever_a_tool_says_of_its_uses_the_ceiling_is_a_sum_of_money(uses, tokens, kind):
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


def test_a_key_may_use_a_model_as_a_fallback_or_advisor_only_if_it_may_use_it_at_all(web, alice, upstream):
    VirtualKey.objects.update(denied_models=["*fable*"])
    for members in (
        {"fallbacks": [{"model": OPUS}, {"model": FABLE}]},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": FABLE}]},
    ):
        answer = CLIENT.post(web.url + "/v1/messages", json=ask() | members, headers=credentials(alice.key))
        assert FABLE in refused(answer, 403, "permission_error")
    assert not upstream.seen


def test_a_request_that_names_a_crowd_of_models_is_refused():
    crowd = [{"model": f"claude-{number}"} for number in range(21)]
    with pytest.raises(GatewayError, match="more than 20 models"):
        held(fallbacks=crowd)
