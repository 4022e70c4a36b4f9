"""What a refusal costs: nothing before any output, but for some categories; in full after it.

https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback#how-refusals-are-billed
"""

from __future__ import annotations

import json
import socket
import threading
from decimal import Decimal

import pytest

from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.settlement import bill
from messages_api.stored import batch_upkeep
from tests.stored.test_batch_upkeep import later
from tests.stored.test_batches import NAME, create, get, lines
from tests.support.answers import fallback, in_events, refusal, steps
from tests.support.batch_provider import BatchProvider
from tests.support.bedrock_provider import frames, streamed
from tests.support.clouds import issue_for
from tests.support.fake_provider import broken, pieces, whole
from tests.support.gateway import CLIENT, MODEL, ask, credentials, event, message, post, row
from tests.support.openai_provider import ask_gpt, completion, issue_openai
from usage import pricing
from usage.models import Budget, Hold, Window
from usage.tokens import TokenCounts

BILLED = ["bio", "frontier_llm", "reasoning_extraction"]
FREE = ["cyber", "general_harms", None, "", "a_category_of_next_year", 7]
IN_FULL = Decimal(4) * 40_000 / 1_000_000
NOT_BILLED = (Decimal(0), "refusal_not_billed")


def billed(entry):
    return entry.cost, entry.price_flag


def called(web, caller, upstream, answer, *, stream):
    """The row of a call that is answered so."""
    upstream.answer = steps(answer, stream=stream)
    assert post(web, caller.key, ask(stream=stream, fallbacks="default")).status_code == 200
    return row()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", FREE)
def test_a_refusal_before_any_output_costs_nothing_and_its_row_says_why(web, upstream, alice, category, stream):
    entry = called(web, alice, upstream, refusal(category, output_tokens=1), stream=stream)
    assert billed(entry) == NOT_BILLED
    assert (entry.input_tokens, entry.output_tokens, entry.stop_reason) == (40_000, 1, "refusal")
    assert (entry.status, entry.estimated) == ("completed", False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", BILLED)
def test_some_categories_are_billed_all_the_same(web, upstream, alice, category, stream):
    assert billed(called(web, alice, upstream, refusal(category), stream=stream)) == (IN_FULL, "")


NOTHING = [
    [],
    [{"type": "text", "text": ""}],
    [{"type": "text", "text": ""}, {"type": "text", "text": "", "citations": None}],
]
SOMETHING = [
    [{"type": "text", "text": "I"}],
    [{"type": "text", "text": '"'}],
    [{"type": "text", "text": ""}, {"type": "text", "text": "Hello"}],
    [{"type": "thinking", "thinking": "Hm", "signature": "s"}],
    [{"type": "thinking", "thinking": "", "signature": "written, and not shown"}],
    [{"type": "redacted_thinking", "data": "sealed"}],
    [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
    [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}],
    [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}],
    [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"text": "x" * 70_000}]}],
    [{"type": "a_block_of_next_year", "words": "some"}],
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", NOTHING, ids=json.dumps)
def test_a_block_without_words_is_no_output(web, upstream, alice, content, stream):
    assert billed(called(web, alice, upstream, refusal(content=content), stream=stream)) == NOT_BILLED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", SOMETHING, ids=lambda content: content[-1]["type"])
def test_a_refusal_after_any_output_is_billed_in_full(web, upstream, alice, content, stream):
    assert billed(called(web, alice, upstream, refusal(content=content), stream=stream)) == (IN_FULL, "")


def test_an_empty_delta_is_no_output_however_its_members_are_ordered(web, upstream, alice):
    start, *_, delta, stop = in_events(refusal())
    empty = [
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": ""}),
        event("content_block_delta", delta={"type": "text_delta", "text": ""}, index=0, more='"'),
        event("content_block_delta", index=0, delta={"text": "", "type": "text_delta"}),
    ]
    upstream.answer = pieces(200, [start, *empty, delta, stop])
    assert post(web, alice.key, ask(stream=True)).status_code == 200
    assert billed(row()) == NOT_BILLED


# Budgets


@pytest.mark.parametrize("stream", [False, True])
def test_budgets_of_money_get_all_back_and_budgets_of_tokens_count_what_was_read(web, upstream, alice, stream):
    money = Budget.objects.create(team=alice.team, amount=1)
    tokens = Budget.objects.create(team=alice.team, amount=1_000_000, unit="tokens")
    called(web, alice, upstream, refusal(), stream=stream)
    windows = {window.budget_id: (window.spent, window.held) for window in Window.objects.all()}
    assert windows == {money.id: (Decimal(0), Decimal(0)), tokens.id: (Decimal(40_000), Decimal(0))}


# Without an end, or without counts


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "many"}], ids=repr)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_without_counts_costs_nothing_either(web, upstream, alice, usage, stream):
    answer = refusal() | {"usage": usage}
    parts = [event("message_start", message=answer | {"stop_reason": None}), *in_events(refusal())[-2:]]
    parts[1] = event("message_delta", delta={"stop_reason": "refusal"}, usage=usage)
    upstream.answer = pieces(200, parts) if stream else whole(200, json.dumps(answer).encode())
    post(web, alice.key, ask(stream=stream))
    entry = row()
    assert billed(entry) == NOT_BILLED
    assert (entry.estimated, entry.output_tokens) == (True, 0)


def test_a_stream_that_breaks_off_after_its_refusal_costs_nothing(web, upstream, alice):
    upstream.answer = broken(in_events(refusal())[:-1])
    post(web, alice.key, ask(stream=True))
    entry = row()
    assert billed(entry) == NOT_BILLED
    assert (entry.status, entry.input_tokens, entry.output_tokens) == ("failed", 40_000, 0)


def test_a_client_that_hangs_up_after_a_refusal_pays_nothing(web, upstream, alice):
    *parts, _ = in_events(refusal())
    upstream.answer = [*pieces(200, parts)[:-1], threading.Event()]
    body = json.dumps(ask(stream=True)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {alice.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(web.address, timeout=10) as link:
        link.sendall(head.encode() + body)
        said = b""
        while b"message_delta" not in said:
            said += link.recv(1 << 16)
    entry = row()
    assert billed(entry) == NOT_BILLED
    assert (entry.status, entry.input_tokens, entry.estimated) == ("client_disconnected", 40_000, False)


def test_a_client_that_hangs_up_before_the_refusal_is_known_pays_as_ever(web, upstream, alice):
    upstream.answer = broken(in_events(refusal())[:1])
    post(web, alice.key, ask(stream=True))
    entry = row()
    assert (entry.estimated, entry.price_flag) == (True, "")
    assert entry.cost > IN_FULL


# A model that declines, and another that answers


def handed_over(category, *, wrote=0, partial=(), answers=True):
    """An answer of a model in whose place another one was asked first."""
    own = [{"type": "text", "text": "Hi"}] if answers else []
    iterations = [
        {"type": "message", "model": "claude-fable-5", "input_tokens": 1000, "output_tokens": wrote},
        {"type": "fallback_message", "model": MODEL, "input_tokens": 500, "output_tokens": 10 * answers},
    ]
    answer = refusal("cyber", [*partial, fallback(category), *own], input_tokens=500, output_tokens=10 * answers)
    answer["usage"]["iterations"] = iterations
    return answer | ({"stop_reason": "end_turn", "stop_details": None} if answers else {})


# 10 and 50 dollars a million for the first, 4 and 20 for the other.
FIRST, OTHER = Decimal("0.01"), Decimal("0.0022")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", [*FREE, *BILLED])
def test_a_model_that_declined_follows_the_rule_by_the_category_in_its_fallback_block(
    web, upstream, alice, category, stream
):
    entry = called(web, alice, upstream, handed_over(category), stream=stream)
    expected = (FIRST + OTHER, "") if category in BILLED else (OTHER, "refusal_not_billed")
    assert billed(entry) == expected
    assert (entry.input_tokens, entry.estimated, len(entry.iterations)) == (1500, False, 2)
    assert Decimal(entry.iterations[0]["cost"]) == expected[0] - OTHER


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_declined_after_some_output_is_billed(web, upstream, alice, stream):
    # An answer in one piece leaves out what the first model wrote.
    partial = [{"type": "text", "text": "Well, first"}] if stream else []
    entry = called(web, alice, upstream, handed_over("cyber", wrote=20, partial=partial), stream=stream)
    assert billed(entry) == (FIRST + Decimal("0.001") + OTHER, "")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("first", "last", "cost"), [("cyber", "bio", "0.002"), ("bio", "cyber", "0.01")])
def test_where_the_last_model_declines_too_each_goes_by_its_own_category(
    web, upstream, alice, first, last, cost, stream
):
    answer = handed_over(first, answers=False)
    answer["stop_details"]["category"] = last
    entry = called(web, alice, upstream, answer, stream=stream)
    assert billed(entry) == (Decimal(cost), "refusal_not_billed")


def refusals_of(*entries, blocks=(), stop_reason="end_turn"):
    """What each iteration of an answer is taken for."""
    reading = Reading(stop_reason=stop_reason)
    for block in blocks:
        reading.note_block(block)
    reading.overlay({"input_tokens": 1, "output_tokens": 1, "iterations": list(entries)})
    return [step.refusal for step in reading.iterations()]


def entry(kind="message", model="", wrote=0):
    return {"type": kind, "model": model, "input_tokens": 9, "output_tokens": wrote}


WORDS = {"type": "text", "text": "Hi"}


def test_several_models_that_declined_are_distinguished_by_their_blocks():
    found = refusals_of(
        entry(model="a"),
        entry(model="b"),
        entry("fallback_message", "c", 5),
        blocks=[fallback("bio"), fallback(None), WORDS],
    )
    assert found == ["bio", "", None]


def test_the_steps_of_one_model_that_declined_are_one_attempt():
    hop = [entry(model="a", wrote=30), entry("compaction", wrote=9), entry(model="a")]
    after = [entry(model="b"), entry("fallback_message", "c", 5)]
    found = refusals_of(*hop, *after, blocks=[fallback("cyber"), fallback("bio"), WORDS])
    assert found == [None, None, None, "bio", None]


def test_a_conversation_that_goes_straight_to_the_fallback_has_nothing_in_front_of_it():
    assert refusals_of(entry("fallback_message", "c", 5), blocks=[WORDS]) == [None]
    assert refusals_of(entry("fallback_message", "c"), stop_reason="refusal") == [""]


def test_an_advisor_of_a_refused_call_is_billed():
    assert refusals_of(entry(), entry("advisor_message", "b", 5), stop_reason="refusal") == ["", None]


def test_searches_are_charged_with_a_step_that_is_billed():
    reading = Reading(stop_reason="end_turn")
    for block in (fallback("cyber"), WORDS):
        reading.note_block(block)
    steps_ = [entry(model="a"), entry("fallback_message", MODEL, 5)]
    reading.overlay({"server_tool_use": {"web_search_requests": 2}, "iterations": steps_})
    assert [step.counts.web_search_requests for step in reading.iterations()] == [0, 2]


# Batches


@pytest.fixture
def provider(upstream):
    upstream.answer = provider = BatchProvider()
    return provider


def succeeded(answer):
    return {"type": "succeeded", "message": answer}


@pytest.mark.parametrize("read_by", ["its owner", "the task"])
def test_refused_requests_of_a_batch_cost_nothing_either(web, alice, provider, read_by):
    budget = Budget.objects.create(team=alice.team, amount=100)
    create(web, alice.key, "free", "billed", "partial", "uncounted")
    provider.results = {
        "free": succeeded(refusal("cyber")),
        "billed": succeeded(refusal("bio")),
        "partial": succeeded(refusal("cyber", [{"type": "text", "text": "Well"}])),
        "uncounted": succeeded(refusal(None) | {"usage": None}),
    }
    provider.end()
    if read_by == "its owner":
        assert get(web, alice.key, f"/{NAME}/results").status_code == 200
    else:
        provider.batches[NAME]["ended_at"] = "2026-11-01T00:00:00Z"
        later()
        batch_upkeep.tend()
    found = {entry.client_labels["custom_id"]: entry for entry in lines()}
    assert {name: billed(entry) for name, entry in found.items()} == {
        "free": NOT_BILLED,
        "billed": (IN_FULL / 2, ""),
        "partial": (IN_FULL / 2, ""),
        "uncounted": NOT_BILLED,
    }
    assert {name for name, entry in found.items() if entry.estimated} == {"uncounted"}
    assert not Hold.objects.filter(endpoint="batches.create").exists()
    window = Window.objects.get(budget=budget)
    assert (window.spent, window.held) == (IN_FULL, Decimal(0))


# Other providers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", ["cyber", "bio"])
def test_a_refusal_at_azure_is_as_at_anthropic(web, served, upstream, category, stream):
    alice = issue_for("azure", "azure-api-key-0123456789abcdef", upstream.url + "/anthropic")
    entry = called(web, alice, upstream, refusal(category), stream=stream)
    assert billed(entry) == (NOT_BILLED if category == "cyber" else (IN_FULL, ""))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", ["cyber", "bio"])
def test_a_refusal_at_bedrock_is_as_at_anthropic_and_what_amazon_does_not_say_is_flagged(
    web, served, upstream, category, stream
):
    alice = issue_for("bedrock", "bedrock-api-key-0123456789", upstream.url, region="eu-central-1")
    answer = refusal(category, model="claude-sonnet-4-5-20250929", input_tokens=1000, output_tokens=1)
    upstream.answer = streamed([frames(in_events(answer))]) if stream else whole(200, json.dumps(answer).encode())
    asked = ask(model="global.anthropic.claude-sonnet-4-5-20250929-v1:0", stream=stream)
    assert post(web, alice.key, asked).status_code == 200
    # 3 and 15 dollars a million.
    assert billed(row()) == (NOT_BILLED if category == "cyber" else (Decimal("0.003015"), "refusal_billed"))


@pytest.mark.parametrize("kind", ["anthropic", "azure", "bedrock", "vertex"])
def test_every_kind_of_provider_that_sells_claude_knows_the_rule(kind):
    price = pricing.build([]).price("anthropic", MODEL, pricing.BEGINNING.replace(year=2026))
    for category, free in (("cyber", True), ("", True), ("bio", False), (None, False)):
        step = Iteration("message", "", TokenCounts(input_tokens=1000), refusal=category)
        columns = bill(
            [step],
            Reading(),
            provider=kind,
            model=MODEL,
            at=pricing.BEGINNING,
            asked=price,
            prices=lambda *_: price,
        )
        assert (columns["cost"] == 0) == free
        assert columns["input_tokens"] == 1000


def test_a_refusal_of_an_openai_compatible_provider_is_billed_as_reported(web, served, upstream):
    alice = issue_openai(upstream)
    body = json.loads(completion(None))
    body["choices"][0] |= {"finish_reason": "content_filter"}
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "No."}
    upstream.answer = whole(200, json.dumps(body).encode())
    answer = CLIENT.post(web.url + "/v1/messages", json=ask_gpt(), headers=credentials(alice.key))
    assert answer.json()["stop_reason"] == "refusal"
    entry = row()
    assert entry.cost > 0
    assert entry.price_flag == ""


def test_an_answer_without_content_that_is_no_refusal_is_billed(web, upstream, alice):
    upstream.answer = whole(200, message(content=[], input_tokens=40_000, output_tokens=0))
    post(web, alice.key)
    assert billed(row()) == (IN_FULL, "")
