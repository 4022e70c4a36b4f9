"""A Messages request in front of an OpenAI-compatible provider: what it becomes, and what is refused by name."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api import schema
from messages_api.errors import GatewayError
from messages_api.providers import openai
from messages_api.providers.openai import dialects
from tests.openai_provider import GPT, ask_gpt
from tests.recordings import needs_recordings, recordings
from tests.translation import (
    AZURE,
    CEREBRAS,
    DEEPSEEK,
    EVERYBODY,
    GEMINI,
    GROQ,
    KIMI,
    MISTRAL,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    PDF,
    PNG,
    STRICT,
    TOOL,
    VLLM,
    messages,
    refusal,
    sent,
)


def test_a_small_request_becomes_a_small_request():
    assert sent() == {
        "model": GPT,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 64,
    }


@pytest.mark.parametrize(
    ("base_url", "member"),
    [
        (OPENAI, "max_completion_tokens"),
        (AZURE, "max_completion_tokens"),
        (GROQ, "max_completion_tokens"),
        (OPENROUTER, "max_tokens"),
        (MISTRAL, "max_tokens"),
        (DEEPSEEK, "max_tokens"),
        (GEMINI, "max_tokens"),
        (OLLAMA, "max_tokens"),
        (VLLM, "max_tokens"),
    ],
)
def test_the_limit_of_output_goes_by_the_providers_name_for_it(base_url, member):
    made = sent(base_url)
    assert {name: made[name] for name in made if name.startswith("max_")} == {member: 64}


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_a_stream_is_asked_for_its_usage_where_it_may_be(base_url):
    made = sent(base_url, stream=True)
    assert made["stream"] is True
    assert made.get("stream_options") == (None if base_url == MISTRAL else {"include_usage": True})


def test_an_empty_stop_sequence_is_refused_by_its_place():
    for base_url in EVERYBODY:
        assert refusal(base_url, stop_sequences=["END", ""]).startswith("stop_sequences.1: ")
    assert sent(stop_sequences=["\n"])["stop"] == ["\n"]


def test_settings_go_by_their_names():
    made = sent(
        temperature=0.5,
        top_p=0.9,
        stop_sequences=["END", "\n\n"],
        stream=True,
        metadata={"user_id": "u-1"},
        service_tier="standard_only",
        cache_control={"type": "ephemeral"},
        inference_geo="global",
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
        mcp_servers=None,
    )
    assert made == {
        "model": GPT,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END", "\n\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "safety_identifier": "u-1",
        "service_tier": "default",
    }


def test_a_long_name_of_a_user_is_sent_as_its_digest():
    one, other = (sent(metadata={"user_id": "u" * 65 + end})["safety_identifier"] for end in "ab")
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert one != other


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": 5}, "top_k"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"container": "container_1"}, "container"),
        ({"mcp_servers": [{"type": "url", "name": "n", "url": "https://x"}]}, "mcp_servers"),
        ({"container": {"id": "container_1", "skills": [{"type": "anthropic", "skill_id": "pptx"}]}}, "container"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits.0.type"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "new"}]}},
            "context_management.edits.1.type",
        ),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"thread": {"create": True}}, "thread"),
        ({"a_field_of_next_year": 1}, "a_field_of_next_year"),
        ({"output_config": {"a_setting_of_next_year": 1}}, "output_config.a_setting_of_next_year"),
        ({"output_config": {"effort": "giant"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "regex"}}}, "output_config.format.type"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"system": [{"type": "image", "source": PNG}]}, "system.0.type"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_its_name(members, field):
    assert refusal(**members).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "document", "source": PDF | {"media_type": "text/csv"}}, "source.media_type"),
        ({"type": "document", "source": PDF, "citations": {"enabled": True}}, "citations"),
        (
            {"type": "search_result", "source": "s", "title": "t", "content": [], "citations": {"enabled": True}},
            "citations",
        ),
        ({"type": "document", "source": {"type": "content", "content": ["x"]}}, "source.content.0"),
        ({"type": "document", "source": {"type": "content", "content": 7}}, "source.content"),
        ({"type": "image", "source": {"type": "carrier_pigeon"}}, "source.type"),
        ({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "tool_reference"}]}, "content.0.tool_name"),
        ({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text"}]}, "content.0.text"),
        ({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image"}]}, "content.0.source"),
    ],
)
def test_a_block_that_cannot_be_expressed_is_refused_by_its_place(block, field):
    turn = {"role": "user", "content": [{"type": "text", "text": "Look:"}, block]}
    assert refusal(messages=[turn]).startswith(f"messages.0.content.1.{field}: ")


def test_the_system_prompt_is_the_first_message():
    assert messages("Hi", system="Be brief.")[0] == {"role": "system", "content": "Be brief."}
    blocks = [
        {"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "brief."},
    ]
    assert messages("Hi", system=blocks)[0] == {"role": "system", "content": "Be\n\nbrief."}
    assert [turn["role"] for turn in messages("Hi", system="")] == ["user"]


def test_claude_codes_attribution_is_no_part_of_the_prompt():
    told = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1;"},
        {"type": "text", "text": "Be brief."},
    ]
    assert messages("Hi", system=told)[0] == {"role": "system", "content": "Be brief."}
    assert [turn["role"] for turn in messages("Hi", system=told[:1])] == ["user"]


def test_images_come_as_they_are_or_by_their_address():
    shown = [{"type": "image", "source": PNG}, {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]
    (turn,) = messages([{"type": "text", "text": "Look:"}, *shown])
    assert turn["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]


def test_documents_that_are_text_become_text():
    plain = {"type": "text", "media_type": "text/plain", "data": "The text."}
    blocks = {"type": "content", "content": [{"type": "text", "text": "A block."}]}
    (turn,) = messages(
        [
            {"type": "document", "source": plain, "title": "Title", "context": "Context"},
            {"type": "document", "source": blocks},
            {
                "type": "search_result",
                "source": "https://x",
                "title": "Found",
                "content": [{"type": "text", "text": "it"}],
            },
        ]
    )
    assert turn["content"] == "Title\nContext\n\nThe text.\n\nA block.\n\nFound\nhttps://x\n\nit"


@pytest.mark.parametrize(
    ("base_url", "part"),
    [
        (OPENAI, {"type": "file", "file": {"filename": "T", "file_data": "data:application/pdf;base64,JVBERi0xLjQ="}}),
        (MISTRAL, {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0xLjQ="}),
    ],
)
def test_a_pdf_goes_to_who_reads_pdfs(base_url, part):
    (turn,) = messages([{"type": "document", "source": PDF, "title": "T"}], base_url=base_url)
    assert turn["content"] == [{"type": "text", "text": "T"}, part]


CALLS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "I need both.", "signature": "s"},
    {"type": "redacted_thinking", "data": "sealed"},
    {"type": "text", "text": "Let me "},
    {"type": "text", "text": "look."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
    {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
]
RESULTS: list[dict[str, Any]] = [
    {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    },
    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": True},
    {"type": "text", "text": "Go on."},
]


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


@pytest.mark.parametrize(
    ("base_url", "member"),
    [
        (DEEPSEEK, "reasoning_content"),
        (KIMI, "reasoning_content"),
        (VLLM, "reasoning_content"),
        (VLLM, "reasoning"),
        (OPENROUTER, "reasoning"),
        (CEREBRAS, "reasoning"),
    ],
)
def test_thinking_goes_back_to_who_wants_it(base_url, member):
    asked = messages("?", CALLS, RESULTS, base_url=base_url)[1]
    assert asked[member] == "I need both."


@pytest.mark.parametrize("base_url", [OPENAI, AZURE, GROQ, MISTRAL, GEMINI, OLLAMA])
def test_thinking_stays_away_from_who_has_no_place_for_it(base_url):
    asked = messages("?", CALLS, RESULTS, base_url=base_url)[1]
    assert set(asked) == {"role", "content", "tool_calls"}
    assert "I need both" not in json.dumps(asked)


def test_deepseek_gets_a_place_for_thinking_with_every_tool_call():
    assert messages("?", CALLS[4:], RESULTS, base_url=DEEPSEEK)[1]["reasoning_content"] == ""


def test_a_turn_of_thinking_alone_is_left_out_where_nobody_wants_it():
    assert messages("?", CALLS[:2], "So?") == [{"role": "user", "content": "?\n\nSo?"}]
    kept = messages("?", CALLS[:2], "So?", base_url=DEEPSEEK)[1]
    assert kept == {"role": "assistant", "content": "", "reasoning_content": "I need both."}


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


def test_messages_of_one_role_in_a_row_are_one_turn():
    """Every provider wants all results at once, and none of them after something else."""
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"role": "user", "content": [{"type": "text", "text": "Both cities."}]},
        {"role": "assistant", "content": CALLS[2:5]},
        {"role": "assistant", "content": CALLS[5:]},
        {"role": "user", "content": RESULTS[::2]},
        {"role": "user", "content": RESULTS[1:2]},
        {"role": "user", "content": "Now."},
    ]
    made = sent(messages=turns)["messages"]
    assert [turn["role"] for turn in made] == ["user", "assistant", "tool", "tool", "user"]
    assert made[0]["content"] == "Weather?\n\nBoth cities."
    assert [call["id"] for call in made[1]["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert [turn["tool_call_id"] for turn in made[2:4]] == ["toolu_1", "toolu_2"]
    assert made[4]["content"] == "Go on.\n\nNow."
    turns[5]["content"] = [{"type": "image", "source": {"type": "carrier_pigeon"}}]
    assert refusal(messages=turns).startswith("messages.5.content.0.source.type: ")


def test_gemini_gets_a_word_in_place_of_signatures_that_nobody_has():
    for call in messages("?", CALLS, RESULTS, base_url=GEMINI)[1]["tool_calls"]:
        assert call["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}


def test_gemini_gets_it_at_openrouter_once_for_all_calls_of_a_turn():
    asked = messages("?", CALLS, RESULTS, base_url=OPENROUTER, model="google/gemini-3-pro")[1]
    (signed,) = asked["reasoning_details"]
    assert (signed["type"], signed["id"], signed["data"]) == (
        "reasoning.encrypted",
        "toolu_1",
        "skip_thought_signature_validator",
    )
    assert "reasoning_details" not in messages("?", CALLS, RESULTS, base_url=OPENROUTER, model="openai/gpt-5")[1]
    assert "reasoning_details" not in messages("?", "!", "?", base_url=OPENROUTER, model="google/gemini-3-pro")[1]


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_a_turn_to_go_on_with_is_refused_or_marked(base_url):
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is"}]
    marks: dict[str, Any] = {MISTRAL: {"prefix": True}, KIMI: {"partial": True}, OPENROUTER: {}}
    if base_url in marks:
        assert (
            sent(base_url, messages=turns)["messages"][-1]
            == {"role": "assistant", "content": "It is"} | marks[base_url]
        )
    else:
        assert refusal(base_url, messages=turns).startswith("messages.1: ")


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


def test_who_has_to_use_a_tool_is_told_not_to_think_where_models_do_unasked():
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


ENABLED = {"type": "enabled", "budget_tokens": 8000}


@pytest.mark.parametrize(
    ("base_url", "thinking", "effort", "members"),
    [
        (OPENAI, None, None, {}),
        (OPENAI, ENABLED, None, {"reasoning_effort": "medium"}),
        (OPENAI, ENABLED | {"budget_tokens": 1024}, None, {"reasoning_effort": "low"}),
        (OPENAI, ENABLED | {"budget_tokens": 32000}, None, {"reasoning_effort": "high"}),
        (OPENAI, ENABLED, "max", {"reasoning_effort": "xhigh"}),
        (OPENAI, {"type": "adaptive"}, None, {}),
        (OPENAI, {"type": "disabled"}, None, {}),
        (GROQ, None, "max", {}),
        (MISTRAL, None, "low", {"reasoning_effort": "high"}),
        (DEEPSEEK, {"type": "disabled"}, None, {"thinking": {"type": "disabled"}}),
        (DEEPSEEK, ENABLED, "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        (OPENROUTER, ENABLED, None, {"reasoning": {"max_tokens": 8000}}),
        (OPENROUTER, ENABLED, "low", {"reasoning": {"effort": "low"}}),
        (OPENROUTER, {"type": "adaptive"}, None, {"reasoning": {"enabled": True}}),
        (OPENROUTER, {"type": "disabled"}, None, {"reasoning": {"enabled": False}}),
    ],
)
def test_thinking_is_asked_for_in_the_providers_words(base_url, thinking, effort, members):
    asked: dict[str, Any] = {"thinking": thinking, "output_config": {"effort": effort}, "max_tokens": 64_000}
    made = sent(base_url, model="gpt-5.2" if base_url == OPENAI else "some-model", **asked)
    assert {name: made[name] for name in ("reasoning_effort", "thinking", "reasoning") if name in made} == members


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (OPENAI, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        (AZURE, "https://acme.openai.azure.com/openai/v1/chat/completions"),
        (AZURE + "/openai/v1", "https://acme.openai.azure.com/openai/v1/chat/completions"),
        (
            AZURE + "?api-version=2024-10-21",
            "https://acme.openai.azure.com/openai/deployments/my%20model/chat/completions?api-version=2024-10-21",
        ),
        (
            AZURE + "/openai/deployments/fixed?api-version=2024-10-21",
            "https://acme.openai.azure.com/openai/deployments/fixed/chat/completions?api-version=2024-10-21",
        ),
        (OPENROUTER, "https://openrouter.ai/api/v1/chat/completions"),
        (DEEPSEEK, "https://api.deepseek.com/chat/completions"),
        (GEMINI, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/chat/completions"),
        (VLLM, "http://10.0.0.7:8000/v1/chat/completions"),
    ],
)
def test_it_calls_where_the_base_url_says(base_url, url):
    assert dialects.address(base_url, "my model") == url


def test_azure_takes_the_secret_in_a_header_of_its_own():
    assert dialects.credential(AZURE, "s") == (b"api-key", b"s")
    assert dialects.credential("https://proxy.example/openai?api-version=2024-10-21", "s") == (b"api-key", b"s")
    for base_url in set(EVERYBODY) - {AZURE}:
        assert dialects.credential(base_url, "s") == (b"authorization", b"Bearer s")


@pytest.mark.parametrize(
    ("base_url", "model", "own"),
    [
        (OPENAI, "gpt-5-mini", "gpt-5-mini"),
        (OPENAI, "openai/gpt-5-mini", "gpt-5-mini"),
        (MISTRAL, "openai/mistral-large-latest", "mistral-large-latest"),
        (OPENROUTER, "openai/gpt-5-mini", "openai/gpt-5-mini"),
        (GROQ, "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        (GROQ, "openai/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        (VLLM, "meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.3-70B"),
    ],
)
def test_a_model_goes_by_its_providers_name(base_url, model, own):
    assert sent(base_url, model=model)["model"] == own == dialects.own_name(model, base_url)


@pytest.mark.parametrize(("host", "spoken"), [("https://notopenai.com/v1", dialects.OTHER), ("", dialects.OPENAI)])
def test_a_host_is_known_by_its_whole_name(host, spoken):
    assert dialects.dialect(host) is spoken


def attempted(body: bytes, base_url: str) -> tuple[dict[str, Any] | None, GatewayError | None]:
    """What becomes of a request, or why nothing does; neither where the gateway doesn't let it through."""
    try:
        schema.parse(body, betas=None)
    except GatewayError:
        return None, None
    try:
        made: dict[str, Any] = msgspec.json.decode(openai.translated(body, base_url)[0])
    except GatewayError as refused:
        return None, refused
    return made, None


@needs_recordings
def test_every_recorded_request_is_translated_or_refused_by_name():
    translated = refused = 0
    for recording in recordings():
        for base_url in EVERYBODY:
            made, error = attempted(recording.request_body, base_url)
            if error is not None:
                assert (error.status_code, error.reason) == (400, "not_translatable"), recording.name
                assert re.match(r"[a-z_]+(\.\w+)*: ", error.message), error.message
                refused += 1
            elif made is not None:
                assert made["messages"], recording.name
                translated += 1
    assert translated > 500
    assert refused > 100


anything: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["", "text", "base64", "content", "url", "image", "document", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "data", "content", "citations", "title"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(["text", "image", "document", "search_result", "tool_result", "tool_use", "thinking", "zz"]),
    members=st.dictionaries(
        st.sampled_from(["text", "source", "content", "citations", "title", "context", "is_error", "input"]), anything
    ),
    role=st.sampled_from(["user", "assistant", "system"]),
    base_url=st.sampled_from(EVERYBODY),
)
def test_whatever_gets_past_the_schema_is_translated_or_refused(kind, members, role, base_url):
    block = {"type": kind, "id": "x", "name": "n", "tool_use_id": "x", "input": {}, "thinking": "t", **members}
    body = json.dumps(ask_gpt(messages=[{"role": role, "content": [block]}, {"role": "user", "content": "?"}])).encode()
    made, error = attempted(body, base_url)
    assert error is None or error.status_code == 400
    assert made is None or made["messages"]
