"""Members that clients set by themselves, in front of an OpenAI-compatible model: left out, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import Anthropic

from tests.support.fussy_provider import Fussy
from tests.support.gateway import post, refused
from tests.support.openai_provider import GPT, ask_gpt, issue_openai
from tests.support.translation import sent

CLEARS = [
    {"type": "clear_thinking_20251015", "keep": "all"},
    {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 100_000}},
    {"type": "clear_something_20280101"},
]
UNSEEN: list[dict[str, Any]] = [
    {"diagnostics": {"previous_message_id": "msg_1"}},
    {"diagnostics": {"previous_message_id": None}},
    {"betas": ["claude-code-20250219", "context-1m-2025-08-07"]},
    {"anthropic_beta": ["effort-2025-11-24"], "anthropic_version": "bedrock-2023-05-31"},
    {"speed": "standard"},
    {"speed": "fast"},
    {"output_config": {"task_budget": {"type": "tokens", "total": 64_000}}},
    {"output_config": {"effort": "high", "task_budget": None}},
    {"context_management": {"edits": CLEARS}},
    {"context_management": {"edits": []}},
    {"context_management": {}},
    {"thinking": {"type": "adaptive", "display": "omitted", "block_binding": "none"}},
    {"metadata": {"user_id": "user_1", "a_member_of_next_year": 1}},
    {"service_tier": "auto", "inference_geo": "global", "mcp_servers": [], "fallbacks": []},
    {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
    {"fallback_credit_token": "token"},
    {"container": None, "thread": None, "a_field_of_next_year": None},
]
# What Claude Code 2.1 sends with a turn.
CLAUDE_CODE: dict[str, Any] = {
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.263; cch=00000;"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral", "scope": "global"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Fix it", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": [{"type": "text", "text": "Available agent types: general."}]},
    ],
    "tools": [
        {
            "name": "Read",
            "description": "Reads.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"file_path": {"type": "string"}},
                "required": ["file_path"],
                "additionalProperties": False,
            },
            "eager_input_streaming": True,
        },
        {"name": "mcp__" + "server" * 12 + "__list", "input_schema": {"type": "object"}, "defer_loading": True},
    ],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "xhigh", "task_budget": {"type": "tokens", "total": 64_000}},
    "context_management": {"edits": CLEARS[:1]},
    "diagnostics": {"previous_message_id": None},
    "metadata": {"user_id": '{"device_id": "' + "d" * 64 + '"}'},
    "temperature": 1,
}


@pytest.fixture
def gpt_alice(served, upstream):
    return issue_openai(upstream)


@pytest.mark.parametrize("members", UNSEEN, ids=str)
def test_members_without_a_visible_effect_on_the_answer_are_left_out(web, upstream, gpt_alice, members):
    upstream.answer = fussy = Fussy()
    answer = post(web, gpt_alice.key, ask_gpt(**members))
    assert answer.status_code == 200, answer.text
    assert fussy.asked[0].keys() <= {"model", "messages", "max_tokens", "user"}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"inference_geo": "us"}, "inference_geo"),
        ({"container": "container_1"}, "container"),
        ({"thread": {"create": {}}}, "thread"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"context_management": {"edits": [*CLEARS, {"type": "compact_20260112"}]}}, "context_management.edits.3.type"),
        ({"context_management": {"a_setting_of_next_year": 1}}, "context_management.a_setting_of_next_year"),
        ({"mcp_servers": [{"type": "url", "name": "n", "url": "https://x.example"}]}, "mcp_servers"),
        ({"billing_policy": {"bill_to": "self"}}, "billing_policy"),
        ({"output_config": {"a_setting_of_next_year": 1}}, "output_config.a_setting_of_next_year"),
        ({"a_field_of_next_year": {}}, "a_field_of_next_year"),
    ],
)
def test_members_that_change_the_answer_are_refused_by_name(web, upstream, gpt_alice, members, field):
    upstream.answer = Fussy()
    said = refused(post(web, gpt_alice.key, ask_gpt(**members)), 400, "invalid_request_error")
    assert said.startswith(f"{field}: ")
    assert not upstream.seen


def test_claude_code_works_with_another_vendors_model(web, upstream, gpt_alice):
    upstream.answer = fussy = Fussy(calls=True)
    messages: Any = CLAUDE_CODE["messages"]
    with (
        Anthropic(base_url=web.url, api_key=gpt_alice.key, max_retries=0) as client,
        client.messages.stream(model=GPT, max_tokens=64, messages=messages, extra_body=CLAUDE_CODE) as stream,
    ):
        content = stream.get_final_message().content
    assert [block.name for block in content if block.type == "tool_use"] == [t["name"] for t in CLAUDE_CODE["tools"]]
    (asked,) = fussy.asked
    assert asked["messages"] == [
        {"role": "system", "content": "You are Claude Code."},
        {"role": "user", "content": "Fix it\n\n<system>\nAvailable agent types: general.\n</system>"},
    ]


RAN = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {"command": "ls"}},
    {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {"type": "bash_code_execution_result", "stdout": "a", "stderr": "", "return_code": 0, "content": []},
    },
]


@pytest.mark.parametrize("container", ["container_1", {"id": "container_1"}, {"id": "container_1", "skills": []}])
def test_a_container_that_claude_ran_code_in_is_left_behind(container):
    turns = [
        {"role": "user", "content": "List."},
        {"role": "assistant", "content": RAN},
        {"role": "user", "content": "And?"},
    ]
    assert "container" not in sent(messages=turns, container=container)
