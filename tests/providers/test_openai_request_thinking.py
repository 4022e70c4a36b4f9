"""Thinking in a request for an OpenAI-compatible provider: what was thought, and how much is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.openai_turns import CALLS, RESULTS
from tests.support.translation import (
    AZURE,
    CEREBRAS,
    DEEPSEEK,
    GEMINI,
    GROQ,
    KIMI,
    MISTRAL,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    VLLM,
    messages,
    sent,
)


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
def test_thinking_is_not_sent_to_a_provider_without_a_member_for_it(base_url):
    asked = messages("?", CALLS, RESULTS, base_url=base_url)[1]
    assert set(asked) == {"role", "content", "tool_calls"}
    assert "I need both" not in json.dumps(asked)


def test_deepseek_gets_a_place_for_thinking_with_every_tool_call():
    assert messages("?", CALLS[4:], RESULTS, base_url=DEEPSEEK)[1]["reasoning_content"] == ""


def test_a_turn_with_only_thinking_is_left_out_if_the_provider_takes_no_thinking():
    assert messages("?", CALLS[:2], "So?") == [{"role": "user", "content": "?\n\nSo?"}]
    kept = messages("?", CALLS[:2], "So?", base_url=DEEPSEEK)[1]
    assert kept == {"role": "assistant", "content": "", "reasoning_content": "I need both."}


def test_gemini_gets_its_documented_value_for_missing_signatures():
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
