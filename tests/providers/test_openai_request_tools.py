"""Tools, their calls and their results in a request for an OpenAI-compatible provider."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.openai_turns import CALLS, RESULTS
from tests.support.translation import (
    AZURE,
    DEEPSEEK,
    EVERYBODY,
    GEMINI,
    MISTRAL,
    OLLAMA,
    OPENAI,
    PNG,
    STRICT,
    TOOL,
    VLLM,
    messages,
    refusal,
    sent,
)


def test_tools_and_their_results_keep_their_order():
    first, asked, one, two, last = messages("Weather?", CALLS, RESULTS, tools=[TOOL])
    assert first == {"role": "user", "content": "Weather?"}
    assert asked["content"] == "Let me look."
    assert [(call["id"], call["type"], call["function"]["name"]) for call in asked["tool_calls"]] == [
        ("toolu_1", "function", "weather"),
        ("toolu_2", "function", "weather"),
    ]
    assert [json.loads(call["function"]["arguments"]) for call in asked["tool_calls"]] == [{"city": "Köln"}, {}]
    assert set(asked) == {"role", "content", "tool_calls"}
    assert one == {"role": "tool", "tool_call_id": "toolu_1", "content": "a\n\nb"}
    assert two == {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: no such city"}
    assert last == {"role": "user", "content": "Go on."}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({}, ""),
        ({"content": None}, ""),
        ({"content": []}, ""),
        ({"content": "", "is_error": True}, "Error"),
        ({"content": "", "is_error": False}, ""),
    ],
)
def test_an_empty_result_is_an_empty_text(result, said):
    made = messages("?", CALLS[4:5], [{"type": "tool_result", "tool_use_id": "toolu_1", **result}])
    assert made[2:] == [{"role": "tool", "tool_call_id": "toolu_1", "content": said}]


def test_what_a_tool_showed_follows_its_results():
    shown = [{"type": "text", "text": "a map"}, {"type": "image", "source": PNG}]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": shown},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": shown[1:]},
    ]
    *_, one, two, after = messages("?", CALLS[4:], results)
    assert (one["role"], one["content"]) == ("tool", "a map")
    assert (two["role"], two["content"]) == ("tool", "(shown below)")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert after["content"] == [
        {"type": "text", "text": "What the tool call toolu_1 showed:"},
        image,
        {"type": "text", "text": "What the tool call toolu_2 showed:"},
        image,
    ]


def test_at_mistral_the_assistant_has_its_say_between_a_result_and_the_user():
    turns = messages("Weather?", CALLS, RESULTS, "Thanks.", "And now?", base_url=MISTRAL)
    assert [turn["role"] for turn in turns] == [
        *("user", "assistant", "tool", "tool", "assistant", "user", "assistant", "user")
    ]
    assert turns[4]["content"] == "OK"
    only_results = messages("Weather?", CALLS, RESULTS[:2], "Thanks.", "Bye.", base_url=MISTRAL)
    assert [turn["role"] for turn in only_results[3:]] == ["tool", "assistant", "user"]


def test_mistral_gets_ids_of_nine_characters_for_the_call_and_its_result():
    asked, one, two = messages("?", CALLS, RESULTS, base_url=MISTRAL)[1:4]
    ids = [call["id"] for call in asked["tool_calls"]]
    assert all(re.fullmatch("[A-Za-z0-9]{9}", each) for each in ids)
    assert len(set(ids)) == 2
    assert [one["tool_call_id"], two["tool_call_id"]] == ids
    own = [CALLS[4] | {"id": "abcDEF123"}]
    assert messages("?", own, RESULTS[2:], base_url=MISTRAL)[1]["tool_calls"][0]["id"] == "abcDEF123"


@pytest.mark.parametrize("base_url", [OPENAI, AZURE])
def test_an_id_that_is_too_long_is_replaced_in_the_call_and_its_result(base_url):
    long = "chatcmpl-tool-" + "a" * 32
    call, found = CALLS[4] | {"id": long}, RESULTS[0] | {"tool_use_id": long}
    _, asked, result = messages("?", [call], [found], base_url=base_url)
    assert asked["tool_calls"][0]["id"] == result["tool_call_id"]
    assert 1 <= len(result["tool_call_id"]) <= 40
    assert messages("?", [call], [found], base_url=VLLM)[2]["tool_call_id"] == long


def test_a_tool_goes_with_its_schema():
    given = TOOL | {"strict": True, "cache_control": {"type": "ephemeral"}, "type": "custom", "input_schema": STRICT}
    made = sent(tools=[given])
    described = {"name": "weather", "description": "Tells.", "parameters": STRICT, "strict": True}
    assert made["tools"] == [{"type": "function", "function": described}]
    assert "tool_choice" not in made
    assert "parallel_tool_calls" not in made


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_the_choice_of_tools_is_kept(choice, word):
    assert sent(tools=[TOOL], tool_choice=choice)["tool_choice"] == word


def test_the_choice_of_any_tool_has_another_name_at_mistral():
    assert sent(MISTRAL, tools=[TOOL], tool_choice={"type": "any"})["tool_choice"] == "any"


def test_a_forced_tool_switches_default_thinking_off():
    forced: dict[str, Any] = {"tools": [TOOL], "tool_choice": {"type": "any"}}
    assert sent(DEEPSEEK, **forced)["thinking"] == {"type": "disabled"}
    assert sent(DEEPSEEK, **forced, thinking={"type": "adaptive"})["thinking"] == {"type": "enabled"}
    for base_url in EVERYBODY:
        assert ("thinking" in sent(base_url, **forced)) == (base_url == DEEPSEEK)
        assert "thinking" not in sent(base_url, tools=[TOOL])


def test_a_choice_without_tools_is_refused_where_it_asks_for_one():
    assert refusal(tool_choice={"type": "any"}).startswith("tool_choice: ")
    assert refusal(tool_choice={"type": "tool", "name": "weather"}, tools=[]).startswith("tool_choice: ")
    for choice in ({"type": "auto"}, {"type": "none"}, {"type": "auto", "disable_parallel_tool_use": True}):
        assert "tool_choice" not in sent(tool_choice=choice)


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_one_tool_at_a_time_is_asked_for_or_refused(base_url):
    one: Any = {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    if base_url in (DEEPSEEK, GEMINI, OLLAMA):
        assert refusal(base_url, **one).startswith("tool_choice.disable_parallel_tool_use: ")
    else:
        assert sent(base_url, **one)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in sent(base_url, tool_choice=one["tool_choice"])


def test_a_schema_is_strict_where_it_requires_all_that_it_allows():
    strict = {"type": "json_schema", "schema": STRICT}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": STRICT, "strict": True}}
    assert sent(output_config={"format": strict})["response_format"] == wanted
    assert sent(output_format=strict)["response_format"] == wanted
    nested = {"type": "object", "properties": {"inner": {"type": "array", "items": STRICT | {"required": []}}}}
    for loose in (STRICT | {"required": []}, STRICT | {"$defs": {"inner": nested}}, {"type": "object"}):
        made = sent(output_config={"format": {"type": "json_schema", "schema": loose}})
        assert made["response_format"]["json_schema"]["strict"] is False
    assert refusal(DEEPSEEK, output_config={"format": strict}).startswith("output_config.format: ")
