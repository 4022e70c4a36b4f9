"""What a model takes beside what its host does: efforts, images, thinking that goes back, caches."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from messages_api.providers.openai import dialects, traits
from tests.support.fussy_provider import Fussy
from tests.support.gateway import post
from tests.support.openai_provider import ask_gpt, issue_openai
from tests.support.translation import (
    AZURE,
    DEEPSEEK,
    EVERYBODY,
    FOUNDRY,
    GEMINI,
    GROQ,
    KIMI,
    MISTRAL,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    PDF,
    PNG,
    TOOL,
    VLLM,
    messages,
    sent,
)

IMAGE: dict[str, Any] = {"type": "image", "source": PNG}
LINKED = {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}


@pytest.fixture
def gpt_alice(served, upstream):
    return issue_openai(upstream)


@pytest.mark.parametrize(
    ("base_url", "model", "words"),
    [
        (OPENAI, "gpt-5-mini", "low medium high high high"),
        (OPENAI, "gpt-5-nano-2025-08-07", "low medium high high high"),
        (OPENAI, "gpt-5", "low medium high high high"),
        (OPENAI, "gpt-5.1", "low medium high high high"),
        (OPENAI, "gpt-5.1-codex-max", "low medium high xhigh xhigh"),
        (OPENAI, "gpt-5.2", "low medium high xhigh xhigh"),
        (OPENAI, "openai/gpt-5.4-mini", "low medium high xhigh xhigh"),
        (OPENAI, "gpt-5-pro", "high high high high high"),
        (OPENAI, "gpt-5.2-pro", "medium medium high xhigh xhigh"),
        (OPENAI, "o3-mini", "low medium high high high"),
        (OPENAI, "gpt-4.1", None),
        (OPENAI, "gpt-4o-mini", None),
        (OPENAI, "gpt-3.5-turbo", None),
        (OPENAI, "ft:gpt-4.1-mini-2025-04-14:acme::x", None),
        (OPENAI, "gpt-5-chat-latest", None),
        (OPENAI, "o1-mini", None),
        (AZURE, "gpt-5.2", "low medium high xhigh xhigh"),
        (AZURE, "gpt-4.1", None),
        (AZURE, "our-deployment", "low medium high high high"),
        (FOUNDRY, "Mistral-Large-3", None),
        (VLLM, "gpt-4.1", None),
        (VLLM, "gpt-5-mini", "low medium high high high"),
        (VLLM, "openai/gpt-oss-120b", "low medium high high high"),
        (VLLM, "Qwen/Qwen3-32B", "low medium high high high"),
        (VLLM, "grok-4-0709", None),
        (VLLM, "grok-4.3", "low medium high high high"),
        (VLLM, "grok-3-mini", "low high high high high"),
        (GROQ, "openai/gpt-oss-120b", "low medium high high high"),
        (GROQ, "qwen/qwen3-32b", "default default default default default"),
        (GROQ, "llama-3.3-70b-versatile", None),
        (OLLAMA, "gpt-oss:20b", "low medium high high high"),
        (OLLAMA, "llama3.2", None),
        (GEMINI, "gemini-3-pro-preview", "low medium high high high"),
        (GEMINI, "gemini-2.0-flash", None),
        (DEEPSEEK, "deepseek-chat", "low high high high max"),
        (MISTRAL, "mistral-small-latest", "high high high high high"),
        (KIMI, "kimi-k3", "low high high max max"),
        (KIMI, "kimi-k2.6", None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_knows_or_left_out(base_url, model, words):
    levels = ("low", "medium", "high", "xhigh", "max")
    for level, word in zip(levels, words.split() if words else [None] * 5, strict=True):
        assert sent(base_url, model=model, output_config={"effort": level}).get("reasoning_effort") == word
    budget: Any = {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 4096}
    assert sent(base_url, model=model, **budget).get("reasoning_effort") == (words.split()[0] if words else None)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("gpt-5.4", None),
        ("gpt-5.4-mini-2026-03-17", None),
        ("gpt-5.5", "none"),
        ("gpt-5.6-terra", "none"),
        ("gpt-5.10", "none"),
        ("gpt-6-astra", "none"),
        ("gpt-5.3-codex", "high"),
        ("gpt-5.2", "high"),
        ("gpt-5-mini", "high"),
        ("gpt-35-turbo", None),
        ("gpt-4.1", None),
    ],
)
@pytest.mark.parametrize("base_url", [OPENAI, AZURE, VLLM])
def test_tools_go_without_an_effort_where_the_model_takes_one_of_both(base_url, model, word):
    for effort in ("high", None):
        made = sent(base_url, model=model, tools=[TOOL], output_config={"effort": effort})
        assert made.get("reasoning_effort") == (word if effort or word == "none" else None)
    if word in (None, "none") and model.startswith(("gpt-5", "gpt-6")):
        assert sent(base_url, model=model, output_config={"effort": "high"})["reasoning_effort"] == "high"


def test_openrouter_minds_efforts_by_itself():
    made = sent(OPENROUTER, model="openai/gpt-5.6", tools=[TOOL], output_config={"effort": "high"})
    assert made["reasoning"] == {"effort": "high"}
    assert "reasoning_effort" not in made


@pytest.mark.parametrize(
    ("model", "members"),
    [
        ("gpt-5-mini", {"max_completion_tokens": 64, "user": "u", "stream_options": {"include_usage": True}}),
        ("our-deployment", {"max_completion_tokens": 64, "user": "u", "stream_options": {"include_usage": True}}),
        ("Mistral-Large-3", {"max_tokens": 64}),
        ("Ministral-3B", {"max_tokens": 64}),
        ("Llama-4-Maverick-17B-128E-Instruct-FP8", {"max_tokens": 64, "stream_options": {"include_usage": True}}),
        ("DeepSeek-V3.2", {"max_tokens": 64, "stream_options": {"include_usage": True}}),
        ("grok-4", {"max_tokens": 64, "stream_options": {"include_usage": True}}),
    ],
)
@pytest.mark.parametrize("base_url", [FOUNDRY, AZURE, "https://proxy.example/openai?api-version=2024-10-21"])
def test_foundrys_other_models_get_the_older_member_for_the_limit(base_url, model, members):
    made = sent(base_url, model=model, stream=True, metadata={"user_id": "u"})
    assert {name: made[name] for name in made if name not in ("model", "messages", "stream")} == members


# Thinking that goes back

THOUGHT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
]
RESULT: list[dict[str, Any]] = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]


@pytest.mark.parametrize(
    ("base_url", "model", "thought", "unthought"),
    [
        (VLLM, "Qwen/Qwen3-32B", {"reasoning": "Hm.", "reasoning_content": "Hm."}, {}),
        (VLLM, "moonshotai/Kimi-K2.5", {"reasoning": "Hm.", "reasoning_content": "Hm."}, {"reasoning_content": " "}),
        (VLLM, "deepseek-v4-pro", {"reasoning": "Hm.", "reasoning_content": "Hm."}, {"reasoning_content": ""}),
        (DEEPSEEK, "deepseek-reasoner", {"reasoning_content": "Hm."}, {"reasoning_content": ""}),
        (KIMI, "kimi-k2.6", {"reasoning_content": "Hm."}, {"reasoning_content": " "}),
        ("https://api.moonshot.cn/v1", "kimi-k3", {"reasoning_content": "Hm."}, {"reasoning_content": " "}),
        ("https://api.kimi.com/coding/v1", "kimi-for-coding", {"reasoning_content": "Hm."}, {"reasoning_content": " "}),
        (KIMI, "moonshot-v1-128k", {}, {}),
        (OPENROUTER, "moonshotai/kimi-k2.5", {"reasoning": "Hm."}, {}),
        (GROQ, "openai/gpt-oss-120b", {}, {}),
        (OPENAI, "gpt-5-mini", {}, {}),
    ],
)
def test_thinking_goes_back_in_the_member_that_is_read(base_url, model, thought, unthought):
    for content, expected in ((THOUGHT, thought), (THOUGHT[1:], unthought)):
        asked = messages("?", content, RESULT, base_url=base_url, model=model)[1]
        assert {name: asked[name] for name in asked if name.startswith("reasoning")} == expected


def test_kimi_counts_empty_thinking_as_missing():
    turn = [THOUGHT[0] | {"thinking": ""}, THOUGHT[1]]
    assert messages("?", turn, RESULT, base_url=KIMI, model="kimi-k2.6")[1]["reasoning_content"] == " "


@pytest.mark.parametrize(
    ("model", "thinking", "forced", "members"),
    [
        ("kimi-k2.6", {"type": "disabled"}, False, {"thinking": {"type": "disabled"}}),
        ("kimi-k2.6", {"type": "adaptive"}, False, {"thinking": {"type": "enabled"}}),
        ("kimi-k2.6", None, False, {}),
        ("kimi-k2.5", None, True, {"thinking": {"type": "disabled"}}),
        ("kimi-k3", {"type": "disabled"}, False, {}),
        ("kimi-k2.7-code", {"type": "adaptive"}, False, {}),
    ],
)
def test_a_request_for_thinking_has_kimis_own_form(model, thinking, forced, members):
    choice = {"tool_choice": {"type": "any"}} if forced else {}
    made = sent(KIMI, model=model, thinking=thinking, tools=[TOOL], output_config={}, **choice)
    assert {name: made[name] for name in ("reasoning_effort", "thinking") if name in made} == members


# Images and documents


@pytest.mark.parametrize(
    ("base_url", "model", "sees", "fetches"),
    [
        (DEEPSEEK, "deepseek-chat", False, False),
        (DEEPSEEK, "deepseek-v4-pro", False, False),
        (DEEPSEEK, "deepseek-v4-flash-vision-exp", True, False),
        (VLLM, "deepseek-ai/DeepSeek-V3.2", False, False),
        (VLLM, "deepseek-ai/DeepSeek-OCR", True, True),
        (VLLM, "openai/gpt-oss-120b", False, False),
        (VLLM, "meta-llama/Llama-3.3-70B-Instruct", False, False),
        (VLLM, "meta-llama/Llama-3.2-11B-Vision-Instruct", True, True),
        (VLLM, "Qwen/Qwen3-Coder-480B-A35B-Instruct", False, False),
        (VLLM, "Qwen/Qwen3-VL-30B", True, True),
        (OPENROUTER, "deepseek/deepseek-chat", False, False),
        (OPENROUTER, "z-ai/glm-4.6", False, False),
        (OPENROUTER, "z-ai/glm-4.6v", True, True),
        (OPENROUTER, "anthropic/claude-opus-4.8", True, True),
        (OPENAI, "gpt-4o-mini", True, True),
        (OPENAI, "gpt-3.5-turbo", False, False),
        (GROQ, "moonshotai/kimi-k2-instruct-0905", False, False),
        (KIMI, "kimi-k2.6", True, False),
        (OLLAMA, "llama3.2-vision", True, False),
        (OLLAMA, "llama3.1:8b", False, False),
    ],
)
def test_a_model_gets_what_it_can_see_and_a_note_about_the_rest(base_url, model, sees, fetches):
    for image, seen in ((IMAGE, sees), (LINKED, fetches)):
        (turn,) = messages([{"type": "text", "text": "Look:"}, image], base_url=base_url, model=model)
        if seen:
            assert turn["content"][1]["type"] == "image_url"
        else:
            assert turn["content"].startswith("Look:\n\n[An image was here, which you can't see")


@pytest.mark.parametrize("stream", [False, True])
def test_an_image_does_not_kill_the_session_with_a_model_that_has_no_eyes(web, upstream, gpt_alice, stream):
    upstream.answer = fussy = Fussy(blind=True)
    turns = [
        {"role": "user", "content": [IMAGE, {"type": "text", "text": "Look:"}]},
        {"role": "assistant", "content": THOUGHT[1:]},
        {"role": "user", "content": [RESULT[0] | {"content": [IMAGE]}, LINKED]},
    ]
    body = ask_gpt(model="deepseek-chat", messages=turns, tools=[TOOL], stream=stream)
    answer = post(web, gpt_alice.key, body)
    assert answer.status_code == 200, answer.text
    assert json.dumps(fussy.asked[0]["messages"]).count("[An image was here") == 3


@pytest.mark.parametrize("base_url", [GROQ, DEEPSEEK, GEMINI, OLLAMA, KIMI, VLLM])
def test_a_document_that_cannot_be_read_leaves_a_note(base_url):
    (turn,) = messages([{"type": "document", "source": PDF, "title": "Report"}], base_url=base_url)
    assert turn["content"] == "Report\n\n[A document was here, which you can't read.]"
    linked = {"type": "document", "source": {"type": "url", "url": "https://x.example/y.pdf"}}
    (turn,) = messages([linked], base_url=base_url)
    assert turn["content"] == "[A document was here, which you can't read: https://x.example/y.pdf]"


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_a_file_that_only_anthropic_has_leaves_a_note(base_url):
    source = {"type": "file", "file_id": "file_1"}
    for kind in ("image", "document"):
        (turn,) = messages([{"type": kind, "source": source}], base_url=base_url)
        assert turn["content"].startswith("[A")


# Caches

KEPT = {"type": "ephemeral", "ttl": "1h"}
BREAK: dict[str, Any] = {"cache_control": KEPT | {"scope": "global"}}


@pytest.mark.parametrize("model", ["anthropic/claude-opus-4.8", "google/gemini-3-pro"])
def test_openrouter_gets_cache_breakpoints(model):
    asked = [{"type": "text", "text": "Let me look.", **BREAK}, THOUGHT[1]]
    result = RESULT[0] | BREAK
    made = sent(
        OPENROUTER,
        model=model,
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief.", **BREAK}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hi", **BREAK}, IMAGE | BREAK]},
            {"role": "assistant", "content": asked},
            {"role": "user", "content": [result, {"type": "text", "text": "", **BREAK}]},
        ],
        tools=[TOOL | BREAK],
        cache_control={"type": "ephemeral"},
    )
    first, question, turn, answer, *_ = made["messages"]
    assert first["content"] == [
        {"type": "text", "text": "Be"},
        {"type": "text", "text": "brief.", "cache_control": KEPT},
    ]
    assert question["content"][0] == {"type": "text", "text": "Hi", "cache_control": KEPT}
    assert question["content"][1].keys() == {"type", "image_url"}
    assert turn["content"] == [{"type": "text", "text": "Let me look.", "cache_control": KEPT}]
    assert answer["content"] == [{"type": "text", "text": "rain", "cache_control": KEPT}]
    assert made.get("cache_control") == ({"type": "ephemeral"} if model.startswith("anthropic/") else None)


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_no_other_provider_gets_cache_breakpoints(base_url):
    said = [{"type": "text", "text": "Hi", **BREAK}]
    made = sent(
        base_url,
        model="openai/gpt-5.2",
        system=said,
        messages=[{"role": "user", "content": said}],
        tools=[TOOL | BREAK],
        cache_control=KEPT,
    )
    assert "cache_control" not in json.dumps(made)


def test_every_change_is_one_of_a_dialect():
    for trait in traits.TRAITS:
        assert trait.changes.keys() <= dialects.Dialect.__dataclass_fields__.keys()
        assert trait.hosts <= {spoken.host for spoken in (*dialects.HOSTS.values(), dialects.OTHER)}


@pytest.mark.parametrize(
    ("model", "effort", "tools", "sampled"),
    [
        ("gpt-4o", None, False, True),
        ("gpt-4.1-mini", None, True, True),
        ("gpt-5-chat-latest", None, False, True),
        ("gpt-5.2-chat-latest", None, False, True),
        ("gpt-5", None, False, False),
        ("gpt-5-mini-2025-08-07", None, True, False),
        ("openai/gpt-5-nano", "low", False, False),
        ("o3-mini", None, False, False),
        ("gpt-5.1", None, False, True),
        ("gpt-5.2", "high", False, False),
        ("gpt-5.4", "high", True, True),  # with tools, it gets no effort
        ("gpt-5.2-pro", None, False, False),
        ("gpt-5.1-codex", None, False, False),
        ("gpt-5.6-luna", None, False, False),
        ("gpt-5.6-luna", None, True, True),  # with tools, its effort is `none`
        ("gpt-6", "low", False, False),
        ("gpt-oss-120b", "low", False, True),
        ("Qwen/Qwen3-8B", None, False, True),
    ],
)
@pytest.mark.parametrize("base_url", [OPENAI, AZURE, VLLM])
def test_a_model_that_thinks_gets_no_temperature_which_it_would_refuse(base_url, model, effort, tools, sampled):
    members: dict[str, Any] = {"tools": [TOOL]} if tools else {}
    if effort:
        members["output_config"] = {"effort": effort}
    made = sent(base_url, model=model, temperature=0, top_p=0.9, **members)
    assert [name for name in ("temperature", "top_p") if name in made] == (["temperature", "top_p"] if sampled else [])


@pytest.mark.parametrize(
    ("base_url", "model", "most"),
    [
        (OPENAI, "gpt-4o", 16_384),
        (OPENAI, "gpt-4o-mini-2024-07-18", 16_384),
        (OPENAI, "gpt-4o-2024-05-13", 4_096),
        (OPENAI, "ft:gpt-4.1-mini:acme", 32_768),
        (OPENAI, "gpt-3.5-turbo", 4_096),
        (OPENAI, "gpt-5-chat-latest", 16_384),
        (OPENAI, "gpt-5.2", 128_000),
        (OPENAI, "o4-mini", 100_000),
        (AZURE, "gpt-4o", 16_384),
        (AZURE, "our-deployment", 200_000),
        (VLLM, "qwen3-8b", 200_000),
    ],
)
def test_no_more_output_is_asked_for_than_the_model_can_write(base_url, model, most):
    def limit(asked):
        made = sent(base_url, model=model, max_tokens=asked)
        return made.get("max_completion_tokens", made.get("max_tokens"))

    assert (limit(200_000), limit(4_000)) == (most, 4_000)


@pytest.mark.parametrize(("base_url", "flat"), [(OPENAI, True), (AZURE, True), (VLLM, False), (GEMINI, False)])
def test_openai_gets_no_alternatives_at_the_top_of_a_tools_schema(base_url, flat):
    schema: dict[str, Any] = {
        "anyOf": [
            {"properties": {"path": {"type": "string"}}, "required": ["path"]},
            {"properties": {"url": {"type": "string"}, "note": {"type": "integer"}}, "required": ["url"]},
            True,
        ],
        "properties": {"note": {"oneOf": [{"type": "string"}, {"type": "null"}]}},
        "not": {"required": ["path", "url"]},
    }
    [tool] = sent(base_url, tools=[{"name": "f", "input_schema": schema}])["tools"]
    made = tool["function"]["parameters"]
    assert ("anyOf" in made, "not" in made) == (not flat, not flat)
    if flat:
        text = {"type": "string"}
        assert made == {"type": "object", "properties": {"path": text, "url": text, **schema["properties"]}}


@pytest.mark.parametrize(
    ("base_url", "model", "sampled"),
    [
        (KIMI, "kimi-k2.5", False),
        (KIMI, "kimi-k2.6", False),
        (KIMI, "kimi-k3", False),
        (KIMI, "k3-256k", False),
        (KIMI, "kimi-for-coding", False),
        (KIMI, "kimi-k2-thinking-turbo", False),
        (KIMI, "kimi-k2-0905-preview", True),
        (KIMI, "moonshot-v1-32k", True),
        (VLLM, "moonshotai/Kimi-K2.5", True),
    ],
)
def test_kimis_models_get_no_temperature_that_they_refuse(base_url, model, sampled):
    made = sent(base_url, model=model, temperature=0.2, top_p=0.9)
    assert ({"temperature", "top_p"} <= made.keys()) == sampled
    assert made.keys().isdisjoint({"temperature", "top_p"}) != sampled


@pytest.mark.parametrize("host", ["dashscope", "dashscope-intl", "eu-1.maas"])
@pytest.mark.parametrize("model", ["qwen3-max", "qwen-plus-latest", "qwq-plus", "Qwen3-235B-A22B-Thinking"])
def test_qwen_at_alibaba_thinks_within_what_was_asked_for(host, model):
    base_url = f"https://{host}.aliyuncs.com/compatible-mode/v1"
    assert dialects.dialect(base_url, model).limit == "max_completion_tokens"
    assert "max_tokens" not in sent(base_url, model=model)


def test_other_models_at_alibaba_are_asked_as_at_hosts_that_are_not_known():
    for model in ("deepseek-v4", "kimi-k2.5", "glm-5"):
        there = dialects.dialect("https://dashscope.aliyuncs.com/compatible-mode/v1", model)
        assert there == dataclasses.replace(dialects.dialect(VLLM, model), host=there.host, grammars=False)
