"""Calls of tools in a streamed chat completion, in whichever pieces and order a provider sends them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.openai_events import blocks, last, tools, translated, whole_blocks
from tests.support.openai_provider import DONE, chunk, tool_call


def test_whole_calls_without_an_index_are_calls_of_their_own():
    made = tools(tool_call(None, '{"n": 1}', "t", "call_a"), tool_call(None, '{"n": 2}', "t", "call_b"), finish="stop")
    assert [(block["id"], block["input"]) for block in made] == [("call_a", {"n": 1}), ("call_b", {"n": 2})]


def test_whole_calls_of_one_index_are_calls_of_their_own():
    made = tools(tool_call(0, '{"n": 1}', "t", "call_a"), tool_call(0, '{"n": 2}', "t", "call_b"))
    assert [(block["id"], block["input"]) for block in made] == [("call_a", {"n": 1}), ("call_b", {"n": 2})]


def test_a_call_without_an_id_gets_one():
    one, other = tools(tool_call(None, "{}", "t", ""), tool_call(None, "{}", "t"))
    assert one["id"].startswith("toolu_")
    assert other["id"] not in ("", one["id"])


def test_parts_without_an_index_belong_to_the_last_call():
    (made,) = tools(tool_call(None, '{"a":', "t", "call_a"), tool_call(None, "1}"))
    assert made["input"] == {"a": 1}


def test_a_repeated_name_is_sent_once():
    (made,) = tools(tool_call(0, '{"a":', "t", "call_a"), tool_call(0, "1}", "t", "call_a"))
    assert (made["name"], made["input"]) == ("t", {"a": 1})


def test_a_name_may_come_in_pieces_and_an_id_late():
    (made,) = tools(tool_call(0, "", "get_"), tool_call(0, "", "weather"), tool_call(0, '{"a": 1}', id="call_a"))
    assert made == {"type": "tool_use", "id": "call_a", "name": "get_weather", "input": {"a": 1}}


def test_an_id_that_comes_too_late_is_no_other_call():
    (made,) = tools(tool_call(0, '{"a":', "t"), tool_call(0, "1}", "t", "call_a"))
    assert made["id"].startswith("toolu_")
    assert made["input"] == {"a": 1}


def test_whole_calls_of_one_index_and_without_ids_are_calls_of_their_own():
    made = tools(tool_call(0, '{"n": 1}', "t"), tool_call(0, '{"n": 1}', "t"), tool_call(0, '{"n": 2}', "u"))
    assert [(block["name"], block["input"]) for block in made] == [("t", {"n": 1}), ("t", {"n": 1}), ("u", {"n": 2})]


def test_calls_with_the_same_id_stay_separate():
    one, other = tools(tool_call(0, '{"n": 1}', "t", "call_a"), tool_call(1, '{"n": 2}', "t", "call_a"))
    assert (one["id"], one["input"], other["input"]) == ("call_a", {"n": 1}, {"n": 2})
    assert other["id"].startswith("toolu_")
    one, other = whole_blocks(*tool_call(None, "{}", "t", "x")["tool_calls"] * 2)
    assert one["id"] == "x"
    assert other["id"].startswith("toolu_")


def test_a_call_that_is_repeated_at_its_end_is_one_call():
    (made,) = tools(
        tool_call(0, '{"a": ', "t", "call_a"), tool_call(0, "1}"), tool_call(0, '{"a": 1}', "t", "call_a"), {}
    )
    assert made["input"] == {"a": 1}
    (made,) = tools(tool_call(0, '{"a": 1}', "t", "call_a"), tool_call(0, "", "t", "call_a"), tool_call(0, " \n"))
    assert made["input"] == {"a": 1}


def test_parts_without_an_index_find_their_call_by_its_id():
    made = tools(
        tool_call(None, '{"n":', "t", "call_a"),
        tool_call(None, '{"n":', "u", "call_b"),
        tool_call(None, " 1}", id="call_a"),
        tool_call(None, " 2}"),
    )
    assert [(block["name"], block["input"]) for block in made] == [("t", {"n": 1}), ("u", {"n": 2})]


@pytest.mark.parametrize(
    ("said", "after"), [({"content": "Wait."}, ["Wait.Done."]), ({"reasoning_content": "Hm."}, ["Hm.", "Done."])]
)
def test_text_in_the_middle_of_a_call_follows_it(said, after):
    made = tools(tool_call(0, '{"n":', "t", "call_a"), said, tool_call(0, " 1}"), {"content": "Done."})
    assert made[0]["input"] == {"n": 1}
    assert [block[block["type"]] for block in made[1:]] == after


def test_text_in_the_middle_of_a_call_that_was_cut_is_not_lost():
    events = translated([chunk(tool_call(0, '{"n":', "t", "a")), chunk({"content": "So."}), chunk({}, "length"), DONE])
    assert [data["content_block"]["type"] for kind, data in events if kind == "content_block_start"] == [
        "tool_use",
        "text",
    ]
    assert last(events)["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("null", {}),
        ("[]", {}),
        (" \n", {}),
        (' \n{"a": 1}\n', {"a": 1}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("Cologne", {"INVALID_JSON": "Cologne"}),
        ('{"a": "\\\\"}', {"a": "\\"}),
        ('{"a": ["}\\"{", {"b": []}]}', {"a": ['}"{', {"b": []}]}),
    ],
)
def test_input_is_an_object_for_any_arguments(written, made):
    assert whole_blocks(*tool_call(0, written, "t", "a")["tool_calls"])[0]["input"] == made
    for size in (1, 2, len(written)):
        cuts = [written[at : at + size] for at in range(0, len(written), size)]
        both = tools(tool_call(0, "", "t", "a"), *(tool_call(0, part) for part in cuts), tool_call(1, "{}", "u", "b"))
        assert [block["input"] for block in both] == [made, {}]


def test_a_stray_bracket_after_a_call_is_dropped():
    (made,) = tools(tool_call(0, '{"a": 1}}', "t", "a"), tool_call(0, "}"))
    assert made["input"] == {"a": 1}


def test_empty_calls_are_left_out():
    nothing = {"custom": {"name": "", "input": ""}, "function": {"name": "", "arguments": ""}, "id": "", "type": ""}
    events = translated([chunk({"content": "Hi", "tool_calls": [nothing]}), chunk({}, "stop"), DONE])
    assert blocks(events) == [{"type": "text", "text": "Hi"}]
    assert whole_blocks(nothing) == []


def test_calls_whose_parts_are_mixed_come_one_after_another():
    made = tools(
        tool_call(0, '{"a"', "t", "call_a"),
        tool_call(1, '{"b"', "u", "call_b"),
        tool_call(0, ": 1}"),
        tool_call(2, "{}", "v", "call_c"),
        tool_call(1, ": 2}"),
    )
    assert [(block["name"], block["input"]) for block in made] == [("t", {"a": 1}), ("u", {"b": 2}), ("v", {})]


@given(st.data())
def test_however_the_parts_of_calls_are_mixed_each_call_is_whole(data):
    inputs = [{"n": number, "text": 'a "quoted" } brace {'} for number in range(3)]
    written = [json.dumps(value) for value in inputs]
    left = [data.draw(st.lists(st.integers(1, len(text) - 1), max_size=3, unique=True).map(sorted)) for text in written]
    parts: list[list[dict[str, Any]]] = []
    for number, (text, places) in enumerate(zip(written, left, strict=True)):
        cuts = [0, *places, len(text)]
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        first = tool_call(number, "", f"t{number}", f"call_{number}")
        parts.append([first, *(tool_call(number, piece) for piece in pieces)])
    order = data.draw(st.permutations([number for number, each in enumerate(parts) for _ in each]))
    queues = [iter(each) for each in parts]
    made = {block["name"]: block["input"] for block in tools(*(next(queues[number]) for number in order))}
    assert made == {f"t{number}": value for number, value in enumerate(inputs)}


def test_a_call_without_arguments_is_an_empty_input():
    (made,) = tools(tool_call(0, "", "t", "call_a"))
    assert made["input"] == {}


def test_arguments_may_be_an_object():
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "t", "arguments": {"a": [1, "ü"]}}}]}
    assert tools(delta)[0]["input"] == {"a": [1, "ü"]}


def test_a_function_call_of_old_is_a_tool_call():
    (made,) = tools({"function_call": {"name": "t", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    assert (made["name"], made["input"]) == ("t", {})
