"""A Messages request in front of an OpenAI-compatible provider: what it becomes, and what is refused by name."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers import openai
from messages_api.providers.openai import dialects
from messages_api.request import schema
from messages_api.server.errors import GatewayError
from tests.support.openai_provider import GPT, ask_gpt
from tests.support.openai_turns import CALLS, RESULTS
from tests.support.recordings import needs_recordings, recordings
from tests.support.translation import (
    AZURE,
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
def test_a_member_that_can_not_be_expressed_is_refused_by_its_name(members, field):
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


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("x-anthropic-billing-header: cc_version=2.1; cch=1;\nBe brief.", "Be brief."),
        ("X-Anthropic-Billing-Header: cch=1\n\nx-anthropic-billing-header: cch=2\n\nBe brief.", "Be brief."),
        (["x-anthropic-billing-header: cch=1;", "x-anthropic-billing-header: cch=2;", "Be brief."], "Be brief."),
        (["x-anthropic-billing-header: cch=1;\nBe brief.", "Be kind."], "Be brief.\n\nBe kind."),
        (["Be brief.", "x-anthropic-billing-header: cch=1;"], "Be brief.\n\nx-anthropic-billing-header: cch=1;"),
        ("x-anthropic-billing-header: cch=1;", None),
    ],
)
def test_nor_is_it_anywhere_else_at_its_beginning(told, left):
    system = told if isinstance(told, str) else [{"type": "text", "text": each} for each in told]
    first = messages("Hi", system=system)[0]
    assert first == ({"role": "system", "content": left} if left else {"role": "user", "content": "Hi"})


def test_an_empty_text_beside_an_image_is_left_out():
    shown = {"type": "image", "source": PNG}
    (turn,) = messages([{"type": "text", "text": ""}, shown])
    assert [part["type"] for part in turn["content"]] == ["image_url"]


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
def test_each_request_that_passes_the_schema_is_translated_or_refused(kind, members, role, base_url):
    block = {"type": kind, "id": "x", "name": "n", "tool_use_id": "x", "input": {}, "thinking": "t", **members}
    body = json.dumps(ask_gpt(messages=[{"role": role, "content": [block]}, {"role": "user", "content": "?"}])).encode()
    made, error = attempted(body, base_url)
    assert error is None or error.status_code == 400
    assert made is None or made["messages"]
