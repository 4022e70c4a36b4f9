"""Tools in front of OpenAI-compatible models: their names, their schemas, and what they answered."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import names, schemas
from tests.support.fussy_provider import Fussy, schema_complaints
from tests.support.gateway import post
from tests.support.openai_provider import ask_gpt, issue_openai
from tests.support.translation import (
    DEEPSEEK,
    EVERYBODY,
    GEMINI,
    KIMI,
    OPENAI,
    PNG,
    STRICT,
    TOOL,
    VLLM,
    messages,
    refusal,
    sent,
)

LONG = "mcp__claude_ai_Google_Drive_and_Calendar__list_all_recently_modified_documents"
FITS = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OWN = [
    LONG,
    LONG + "_2",
    "n" * 65,
    "n" * 128,
    "files.read",
    "files/read",
    "ファイルを読む",
    "über",
    "a b",
    "weather",
    "n" * 64,
]


@pytest.fixture
def gpt_alice(served, upstream):
    return issue_openai(upstream)


def tool(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}} | members


def uses(name: str, number: int = 1) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}


def answers(content: Any, number: int = 1, **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content, **members}


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_gets_its_own_names_back(web, upstream, gpt_alice, stream):
    upstream.answer = fussy = Fussy(calls=True)
    history = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": [uses(name, number) for number, name in enumerate(OWN)]},
        {"role": "user", "content": [answers("ok", number) for number in range(len(OWN))]},
    ]
    body = ask_gpt(
        messages=history, tools=[tool(name) for name in OWN], tool_choice={"type": "tool", "name": LONG}, stream=stream
    )
    answer = post(web, gpt_alice.key, body)
    assert answer.status_code == 200, answer.text
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        content = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    else:
        content = answer.json()["content"]
    assert [block["name"] for block in content] == OWN
    (asked,) = fussy.asked
    offered = [each["function"]["name"] for each in asked["tools"]]
    assert len(set(offered)) == len(OWN)
    assert [each["function"]["name"] for each in asked["messages"][1]["tool_calls"]] == offered
    assert asked["tool_choice"]["function"]["name"] == offered[0]
    assert [name for name in offered if name in OWN] == ["weather", "n" * 64]


def test_a_name_is_shortened_alike_in_every_request():
    (one,) = sent(tools=[tool(LONG)])["tools"]
    *_, other = sent(tools=[tool("a"), tool(LONG + "x"), tool(LONG)])["tools"]
    assert one["function"]["name"] == other["function"]["name"]
    assert one["function"]["name"].startswith(LONG[:40])


def test_names_stay_distinct_where_a_tool_is_called_like_another_one_shortened():
    made = sent(tools=[tool(LONG)])["tools"][0]["function"]["name"]
    offered = [each["function"]["name"] for each in sent(tools=[tool(LONG), tool(made)])["tools"]]
    assert offered[1] == made
    assert len(set(offered)) == 2
    assert all(FITS.fullmatch(name) for name in offered)


def test_names_stay_distinct_where_their_digests_are_not(monkeypatch):
    monkeypatch.setattr(names, "DIGITS", 0)
    given = [tool("x" * 64 + end) for end in "abcdefghijklm"]
    request: dict[str, Any] = {"messages": [], "tools": copy.deepcopy(given)}
    own = names.shorten(request)
    assert [own[each["name"]] for each in request["tools"]] == [each["name"] for each in given]


@given(st.lists(st.text(max_size=80), unique=True, max_size=8))
def test_any_names_are_made_to_fit_and_restored(own):
    request: dict[str, Any] = {"messages": [], "tools": [tool(name) for name in own]}
    back = names.shorten(request)
    made = [each["name"] for each in request["tools"]]
    assert len(set(made)) == len(own)
    assert all(FITS.fullmatch(name) for name in made)
    assert [back.get(name, name) for name in made] == own


def test_a_name_that_only_the_past_knows_is_shortened_too():
    turns = ["Go", [uses(LONG)], [answers([{"type": "tool_reference", "tool_name": LONG}])]]
    _, asked, result = messages(*turns)
    name = asked["tool_calls"][0]["function"]["name"]
    assert FITS.fullmatch(name)
    assert name in result["content"]


# Schemas

BARE: list[dict[str, Any]] = [
    {"type": "object"},
    {},
    {"type": None},
    {"type": ["object", "null"]},
    {"type": "object", "properties": None, "required": None},
    {"properties": {"a": {"type": "object"}}},
    {"type": "object", "properties": {"a": {"type": ["object", "null"], "description": "anything"}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "object"}, {"type": "null"}, True]}}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}},
    {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": ["array", "null"]}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "object"}}},
    {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "object"}}}},
    {"type": "object", "properties": {"a": {"allOf": [{"type": "object"}], "not": {"type": "object"}}}},
    {"type": "object", "properties": {"type": {"type": "object"}, "properties": {"type": "array"}}},
    {"type": "object", "properties": {"a": True}, "additionalProperties": True},
]


@pytest.mark.parametrize("schema", BARE, ids=json.dumps)
def test_an_object_without_properties_does_not_kill_the_turn(web, upstream, gpt_alice, schema):
    upstream.answer = Fussy()
    answer = post(web, gpt_alice.key, ask_gpt(tools=[tool("good"), tool("bare", input_schema=schema)]))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("base_url", sorted(set(EVERYBODY) - {GEMINI}))
def test_schemas_have_what_openai_asks_for(base_url):
    for schema in BARE:
        (made,) = sent(base_url, tools=[tool("bare", input_schema=schema)])["tools"]
        assert not list(schema_complaints(made["function"]["parameters"]))


def test_what_only_looks_like_a_schema_stays_as_it_is():
    given: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"enum": [{"type": "object"}], "default": {"type": "array"}, "examples": [{"type": "object"}]},
            "b": {"const": {"type": "object"}},
            "required": {"type": "string"},
        },
        "required": ["a"],
        "additionalProperties": True,
    }
    assert sent(tools=[tool("t", input_schema=given)])["tools"][0]["function"]["parameters"] == given


def test_a_server_that_makes_grammars_gets_schemas_that_it_can_make_them_of():
    # https://github.com/ggml-org/llama.cpp/issues/21943
    asked: dict[str, Any] = {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "pattern": r"^\d+$", "description": "A number", "maxLength": 5000},
            "plain": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 100},
            "list": {"type": "array", "maxItems": 20000, "items": {"anyOf": [{"type": "string", "pattern": "(?i)a"}]}},
        },
    }
    tools = [TOOL | {"input_schema": asked}]
    members = sent(VLLM, tools=tools)["tools"][0]["function"]["parameters"]["properties"]
    assert members == {
        "pattern": {"type": "string", "description": r"A number (pattern: ^\d+$)"},
        "plain": asked["properties"]["plain"],
        "list": {"type": "array", "items": {"anyOf": [{"type": "string", "description": "(pattern: (?i)a)"}]}},
    }
    assert sent(OPENAI, tools=tools)["tools"][0]["function"]["parameters"] == asked


def test_gemini_gets_no_empty_properties():
    (made,) = sent(GEMINI, tools=[tool("t", input_schema={"type": "object"})])["tools"]
    assert made["function"]["parameters"] == {"type": "object"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        (closed(), True),
        (closed(a={"type": "string", "format": "date-time", "description": "When."}), True),
        (closed(a={"type": ["string", "null"], "enum": ["x", None]}), True),
        (closed(a={"anyOf": [STRICT, {"type": "null"}]}, b={"type": "array", "items": STRICT}), True),
        (closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": STRICT}}, True),
        (STRICT | {"required": []}, False),
        ({"type": "object"}, False),
        (STRICT | {"additionalProperties": True}, False),
        (closed(a={"type": "string", "format": "uri"}), False),
        (closed(a={"type": "string", "format": ["date"]}), False),
        (closed(a={"type": "string", "minLength": 1}), False),
        (closed(a={"type": "string", "default": "x"}), False),
        (closed(a={"type": "object"}), False),
        (closed(a={"type": "array", "items": {"type": "object"}}), False),
        (closed(a={"type": "array", "uniqueItems": True, "items": {"type": "string"}}), False),
        (closed(a={"oneOf": [STRICT, {"type": "null"}]}), False),
        (closed(a={"description": "anything"}), False),
        (closed(a=True), False),
        (closed(a={"$ref": "#/$defs/A", "description": "x"}) | {"$defs": {"A": STRICT}}, False),
        (closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": STRICT | {"required": None}}}, False),
        (closed(a={"type": "object", "patternProperties": {}}), False),
        (closed() | {"anyOf": [STRICT]}, False),
    ],
)
def test_a_tool_is_strict_where_strict_mode_takes_its_schema(schema, strict):
    made = sent(tools=[tool("t", input_schema=schema, strict=True)])["tools"][0]["function"]
    assert made.get("strict", False) is strict
    assert "strict" not in sent(KIMI, tools=[tool("t", input_schema=schema, strict=True)])["tools"][0]["function"]
    assert "strict" not in sent(tools=[tool("t", input_schema=schema)])["tools"][0]["function"]
    wanted = sent(output_config={"format": {"type": "json_schema", "schema": schema}})["response_format"]
    assert wanted["json_schema"]["strict"] is strict


anything: Any = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["object", "array", "string", "uri", 7]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "$defs", "required", "format", "enum", "$ref"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(anything)
def test_no_schema_is_too_odd(schema):
    assert isinstance(schemas.strictly(schema), bool)
    made = schemas.filled(copy.deepcopy(schema))
    assert made == schemas.filled(made)


# What comes and goes, and what was answered


def test_anthropics_search_for_tools_is_needless_where_all_are_offered():
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    (made,) = sent(tools=[search, TOOL | {"defer_loading": True}])["tools"]
    assert made["function"]["name"] == "weather"
    assert "tools" not in sent(tools=[search])
    assert refusal(tools=[{"type": "bash_20250124", "name": "bash"}]).startswith("tools.0.type: ")


def test_tools_that_come_and_go_in_mid_conversation_are_those_that_are_offered():
    def change(kind: str, tool: dict[str, Any]) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    reference = {"type": "tool_reference", "name": "weather"}
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    gone = [*turns, change("tool_removal", reference)]
    back = [*gone, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Now"}]
    back += [change("tool_addition", reference)]
    new = [*back, change("tool_addition", {"type": "tool_definition", "definition": tool(LONG)})]
    assert "tools" not in sent(messages=gone, tools=[TOOL])
    assert len(sent(messages=back, tools=[TOOL])["tools"]) == 1
    assert len(sent(messages=new, tools=[TOOL])["tools"]) == 2
    assert all(turn["role"] != "system" for turn in sent(messages=new, tools=[TOOL])["messages"])
    odd = [*turns, change("tool_addition", {"type": "tool_definition", "definition": {"type": "custom"}})]
    assert refusal(messages=odd).startswith("messages.1.content.0.tool.definition.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "tool_reference", "tool_name": "weather"}], "The tool weather is available."),
        (
            [{"type": "text", "text": "Found:"}, {"type": "tool_reference", "tool_name": "weather"}],
            "Found:\n\nThe tool weather is available.",
        ),
        ([], ""),
        ("", ""),
        ([{"type": "text", "text": ""}], ""),
        (
            [{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}],
            "t\ns\n\nx",
        ),
        ([{"type": "a_block_of_next_year", "text": "New."}], "[a_block_of_next_year]\nNew."),
        ([{"type": "image", "source": PNG}], "(shown below)"),
        ([{"type": "text", "text": "a map"}, {"type": "image", "source": PNG}], "a map"),
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_what_a_tool_answered_is_never_a_400(web, upstream, gpt_alice, content, said, failed):
    upstream.answer = fussy = Fussy()
    turns = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": [uses("weather")]},
        {"role": "user", "content": [answers(content, is_error=failed)]},
    ]
    answer = post(web, gpt_alice.key, ask_gpt(messages=turns, tools=[TOOL]))
    assert answer.status_code == 200, answer.text
    told = f"Error: {said}" if said else "Error"
    assert fussy.asked[0]["messages"][2]["content"] == (told if failed else said)


def test_what_a_blind_model_cannot_see_is_said_in_the_tools_answer():
    turns = ["Go", [uses("shot")], [answers([{"type": "image", "source": PNG}])]]
    *_, result = messages(*turns, base_url=DEEPSEEK, model="deepseek-chat")
    assert result == {"role": "tool", "tool_call_id": "toolu_1", "content": "[An image was here, which you can't see.]"}
    assert messages(*turns, base_url=OPENAI)[-1]["content"][1]["type"] == "image_url"
