"""Cache writes that the provider doesn't divide: at the price of the time that the request asked for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from messages_api.request import schema
from tests.stored.test_batches import NAME, create, get, lines
from tests.support.answers import refusal
from tests.support.batch_provider import BatchProvider
from tests.support.batch_provider import message as batched
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import MODEL, ask, event, events, message, post, row
from tests.support.openai_provider import ask_gpt, issue_openai

FIVE: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
FIVE_SAID = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
HOUR: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TEXT = {"type": "text", "text": "Hello"}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
# 1,000 tokens at 5 and 8 dollars a million.
FOR_FIVE, FOR_AN_HOUR = (1000, 0, Decimal("0.005")), (0, 1000, Decimal("0.008"))


def turn(*blocks, role="user"):
    return {"role": role, "content": list(blocks)}


def result(*blocks, **members):
    """A turn with a tool's result, after the one that asked for it."""
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(blocks)} | members
    return {"messages": [turn(TEXT), turn(USE, role="assistant"), turn(block)]}


def document(*blocks):
    source = {"type": "content", "content": list(blocks)}
    return {"messages": [turn({"type": "document", "source": source}, TEXT)]}


def defines(tool):
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}


PLACES = {
    "at the top": lambda mark: mark,
    "system": lambda mark: {"system": [TEXT | mark]},
    "tools": lambda mark: {"tools": [TOOL, TOOL | {"name": "see"} | mark]},
    "a block": lambda mark: {"messages": [turn(TEXT, TEXT | mark)]},
    "a turn of the model's": lambda mark: {"messages": [turn(TEXT), turn(TEXT | mark, role="assistant"), turn(TEXT)]},
    "a system message": lambda mark: {"messages": [turn(TEXT), turn(TEXT | mark, role="system"), turn(TEXT)]},
    "a tool's result": lambda mark: result(TEXT, **mark),
    "a block in a tool's result": lambda mark: result(TEXT, TEXT | mark),
    "a block in a document": lambda mark: document(TEXT, TEXT | mark),
    "a result of the provider's": lambda mark: {
        "messages": [
            turn(TEXT),
            turn({"type": "mcp_tool_result", "content": [TEXT | mark]}, role="assistant"),
            turn(TEXT),
        ]
    },
    "a tool that a turn defines": lambda mark: {"messages": [turn(TEXT), turn(defines(TOOL | mark), role="system")]},
    "an unknown kind of block": lambda mark: {"messages": [turn(TEXT, {"type": "new_kind_1"} | mark)]},
    "a block in one": lambda mark: {"messages": [turn(TEXT, {"type": "new_kind_2", "content": [TEXT | mark]})]},
}
NOT_ASKED = {
    "words": {"messages": [turn({"type": "text", "text": '"cache_control": {"type": "ephemeral", "ttl": "1h"}'})]},
    "a member of a tool's input": result(TEXT)
    | {"messages": [turn(TEXT), turn(USE | {"input": HOUR}, role="assistant"), *result(TEXT)["messages"][2:]]},
    "a tool's schema": {"tools": [TOOL | {"input_schema": {"type": "object", "properties": HOUR}}]},
    "a ttl of something else": {"messages": [turn(TEXT | FIVE)], "metadata": {"user_id": "1h"}},
    "nothing": {"messages": [turn(TEXT | {"cache_control": None})]},
}


def written(entry):
    return entry.cache_creation_5m_input_tokens, entry.cache_creation_1h_input_tokens, entry.cost


def answered(web, caller, upstream, body, usage, *, stream=False):
    """The row of a call whose answer reports this."""
    usage = {"input_tokens": 0, "output_tokens": 0} | usage
    if stream:
        first, *_ = events("x")
        start = json.loads(first.split(b"data: ")[1])["message"] | {"usage": usage}
        end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 0})
        upstream.answer = pieces(200, [event("message_start", message=start), end, event("message_stop")])
    else:
        upstream.answer = whole(200, message(usage=usage))
    answer = post(web, caller.key, body)
    assert answer.status_code == 200, answer.text
    return row()


UNDIVIDED: list[dict[str, Any]] = [
    {"cache_creation_input_tokens": 1000},
    {"cache_creation_input_tokens": 1000, "cache_creation": {}},
    {"cache_creation_input_tokens": 1000, "cache_creation": None},
    {
        "cache_creation_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    },
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", UNDIVIDED, ids=repr)
@pytest.mark.parametrize(
    ("asked", "expected", "flag"),
    [
        ({"system": [TEXT | HOUR]}, FOR_AN_HOUR, ""),
        ({"system": [TEXT | FIVE]}, FOR_FIVE, ""),
        ({}, FOR_FIVE, ""),
        ({"system": [TEXT | HOUR], "messages": [turn(TEXT | FIVE)]}, FOR_AN_HOUR, "cache_writes_as_1h"),
    ],
    ids=["an hour", "five minutes", "nothing", "both"],
)
def test_writes_that_are_not_divided_are_of_the_time_that_was_asked_for(
    web, upstream, alice, asked, expected, flag, usage, stream
):
    entry = answered(web, alice, upstream, ask(**asked, stream=stream), usage, stream=stream)
    assert (written(entry), entry.price_flag, entry.estimated) == (expected, flag, False)


@pytest.mark.parametrize("mark", [HOUR, FIVE, FIVE_SAID], ids=["1h", "no ttl", "5m"])
@pytest.mark.parametrize("place", PLACES)
def test_a_request_asks_for_it_in_each_place_where_a_cached_prefix_may_end(web, upstream, alice, place, mark):
    entry = answered(web, alice, upstream, ask() | PLACES[place](mark), UNDIVIDED[0])
    assert written(entry) == (FOR_AN_HOUR if mark is HOUR else FOR_FIVE)


@pytest.mark.parametrize("place", PLACES)
def test_one_of_each_time_is_both(place):
    assert schema.parse(json.dumps(ask() | PLACES[place](HOUR)).encode()).cache_writes == "1h"
    body = ask() | PLACES[place](FIVE)
    body["messages"] = [turn(TEXT | HOUR), *body["messages"]]
    assert schema.parse(json.dumps(body).encode()).cache_writes == "both"


@pytest.mark.parametrize("place", NOT_ASKED)
def test_the_same_words_elsewhere_ask_for_nothing(place):
    assert schema.parse(json.dumps(ask() | NOT_ASKED[place]).encode()).cache_writes == "5m"


@pytest.mark.parametrize(
    "spelled",
    [
        rb'"ttl":"1h"',
        rb'"ttl"  :  "1h"',
        rb'"ttl":"\u0031h"',
        rb'"ttl":"1\u0068"',
        rb'"\u0074tl":"\u0031\u0068"',
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_read_however_it_is_spelled(place, spelled):
    body = json.dumps(ask() | PLACES[place](HOUR)).encode()
    assert body.count(b'"ttl": "1h"') == 1
    for name in (b'"cache_control"', rb'"cache_\u0063ontrol"'):
        other = body.replace(b'"ttl": "1h"', spelled).replace(b'"cache_control"', name)
        assert schema.parse(other).cache_writes == "1h"


def test_what_the_split_leaves_over_is_of_the_time_that_was_asked_for_too(web, upstream, alice):
    usage = {"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_5m_input_tokens": 400}}
    entry = answered(web, alice, upstream, ask(system=[TEXT | HOUR], tools=[TOOL | FIVE]), usage)
    assert written(entry) == (400, 600, Decimal("0.0068"))
    assert entry.price_flag == "cache_writes_as_1h"


def test_a_split_that_is_complete_is_taken_as_it_is(web, upstream, alice):
    usage = {"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_5m_input_tokens": 1000}}
    entry = answered(web, alice, upstream, ask(system=[TEXT | HOUR], tools=[TOOL | FIVE]), usage)
    assert (written(entry), entry.price_flag) == (FOR_FIVE, "")


def test_iterations_go_by_what_was_asked_for_too(web, upstream, alice):
    step = {"type": "message", "model": MODEL, "input_tokens": 0, "output_tokens": 0} | UNDIVIDED[0]
    entry = answered(web, alice, upstream, ask(**HOUR), UNDIVIDED[0] | {"iterations": [step]})
    assert written(entry) == FOR_AN_HOUR


def test_a_refusal_that_costs_nothing_says_only_that(web, upstream, alice):
    answer = refusal(cache_creation_input_tokens=1000)
    upstream.answer = whole(200, json.dumps(answer).encode())
    post(web, alice.key, ask(system=[TEXT | HOUR], messages=[turn(TEXT | FIVE)]))
    assert (row().cost, row().price_flag) == (Decimal(0), "refusal_not_billed")


def test_a_provider_without_caches_of_an_hour_keeps_to_its_own_price(web, served, upstream):
    alice = issue_openai(upstream)
    written_tokens = {"cache_write_tokens": 1000}
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": written_tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "model": ask_gpt()["model"], "choices": [choice], "usage": usage}
    upstream.answer = whole(200, json.dumps(body).encode())
    answer = post(web, alice.key, ask_gpt(system=[TEXT | HOUR]))
    assert answer.status_code == 200, answer.text
    assert written(row())[:2] == (1000, 0)


@pytest.mark.parametrize(
    ("marks", "expected", "flag"),
    [([HOUR, {}], FOR_AN_HOUR, "cache_writes_as_1h"), ([FIVE, {}], FOR_FIVE, ""), ([{}, {}], FOR_FIVE, "")],
    ids=["an hour", "five minutes", "nothing"],
)
def test_of_a_batch_that_asks_for_an_hour_all_are_taken_for_that(web, upstream, alice, marks, expected, flag):
    upstream.answer = provider = BatchProvider()
    create(web, alice.key, "a", "b", **marks[0])
    provider.results = {
        "a": {"type": "succeeded", "message": batched(0, 0, cache_creation_input_tokens=1000)},
        "b": {"type": "succeeded", "message": batched(0, 0)},
    }
    provider.end()
    assert get(web, alice.key, f"/{NAME}/results").status_code == 200
    first, second = lines()
    assert written(first) == (*expected[:2], expected[2] / 2)
    assert (first.price_flag, second.price_flag) == (flag, "")
