"""Conversations that began with Claude, and go on with an OpenAI-compatible model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fussy_provider import Fussy
from tests.support.gateway import post
from tests.support.openai_provider import ask_gpt, issue_openai
from tests.support.translation import (
    AZURE,
    DEEPSEEK,
    EVERYBODY,
    GEMINI,
    GROQ,
    MISTRAL,
    OLLAMA,
    OPENAI,
    PDF,
    PNG,
    TOOL,
    VLLM,
    messages,
    refusal,
    sent,
)

SEAL = "EqgfCioIARgBIiQ3YTAwMjY1Mi1mZjM5LTQ1NGUtODgxNC1kNjNjNTk1ZWI3Y" * 8
SEALED = {"encrypted_content": SEAL, "encrypted_index": SEAL, "signature": SEAL, "encrypted_stdout": SEAL}


@pytest.fixture
def gpt_alice(served, upstream):
    return issue_openai(upstream)


def used(name: str, **given: Any) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": given}


def found(kind: str, content: Any, **members: Any) -> dict[str, Any]:
    return {"type": kind, "tool_use_id": "srvtoolu_1", "content": content, **members}


HIT = {"type": "web_search_result", "title": "Rain", "url": "https://w.example/1", "page_age": "1 day", **SEALED}
PAGE = {"type": "text", "media_type": "text/plain", "data": "It rains."}
FETCHED = {"type": "web_fetch_result", "url": "https://w.example/1", "retrieved_at": "2026-11-01T00:00:00Z"}
# Blocks that only Anthropic's API has, and what of them another model has to be able to read.
BLOCKS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (used("web_search", query="weather Köln"), ("web_search", "weather Köln")),
    (used("advisor"), ("advisor",)),
    (used("a_tool_of_next_year", x=[1]), ("a_tool_of_next_year",)),
    (found("web_search_tool_result", [HIT, HIT | {"title": "Sun"}]), ("Rain", "https://w.example/1", "Sun")),
    (found("web_search_tool_result", []), ("web_search_tool_result",)),
    (
        found(
            "web_search_tool_result",
            {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"} | SEALED,
        ),
        ("max_uses_exceeded",),
    ),
    (
        found("web_fetch_tool_result", FETCHED | {"content": {"type": "document", "source": PAGE, "title": "Page"}}),
        ("https://w.example/1", "Page", "It rains."),
    ),
    (
        found("web_fetch_tool_result", FETCHED | {"content": {"type": "document", "source": PDF}}),
        ("https://w.example/1",),
    ),
    (
        found("web_fetch_tool_result", {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"}),
        ("url_not_accessible",),
    ),
    (
        found(
            "code_execution_tool_result",
            {
                "type": "code_execution_result",
                "stdout": "42",
                "stderr": "a warning",
                "return_code": 3,
                "content": [{"type": "code_execution_output", "file_id": "file_7"}],
            },
        ),
        ("42", "a warning", "return_code: 3", "file_7"),
    ),
    (
        found(
            "code_execution_tool_result",
            {"type": "encrypted_code_execution_result", "stderr": "", "return_code": 0, "content": [], **SEALED},
        ),
        ("return_code: 0",),
    ),
    (
        found("bash_code_execution_tool_result", {"type": "bash_code_execution_result", "stdout": "a.txt"}),
        ("a.txt",),
    ),
    (
        found(
            "text_editor_code_execution_tool_result",
            {"type": "text_editor_code_execution_str_replace_result", "lines": ["-a", "+b"], "old_start": 1},
        ),
        ("-a", "+b"),
    ),
    (
        found(
            "tool_search_tool_result",
            {
                "type": "tool_search_tool_search_result",
                "tool_references": [{"type": "tool_reference", "tool_name": "weather"}],
            },
        ),
        ("weather",),
    ),
    (
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "docs", "input": {"q": "x"}},
        ("find", '"q": "x"'),
    ),
    (found("mcp_tool_result", [{"type": "text", "text": "In the docs."}], is_error=True), ("In the docs.", "failed")),
    (found("mcp_tool_result", "In a word."), ("In a word.",)),
    (found("advisor_tool_result", {"type": "advisor_result", "text": "Think twice."}), ("Think twice.",)),
    (found("advisor_tool_result", {"type": "advisor_redacted_result", **SEALED}), ("advisor_tool_result",)),
    ({"type": "container_upload", "file_id": "file_1"}, ("file_1",)),
    ({"type": "compaction", "content": None, **SEALED}, ()),
    ({"type": "fallback", "from": {"model": "claude-a"}, "to": {"model": "claude-b"}}, ()),
    ({"type": "redacted_thinking", "data": SEAL}, ()),
    ({"type": "mcp_tool_listing", "mcp_server_name": "docs", "tools": [{"name": "find"}]}, ("docs", "find")),
    ({"type": "a_block_of_next_year", "payload": SEAL, "text": "New.", "number": 7}, ("New.", "number: 7")),
    ({"type": "a_block_of_next_year"}, ("a_block_of_next_year",)),
]


@pytest.mark.parametrize(("block", "readable"), BLOCKS, ids=[block["type"] for block, _ in BLOCKS])
@pytest.mark.parametrize("role", ["assistant", "user"])
def test_blocks_that_only_anthropic_has_become_text(web, upstream, gpt_alice, block, readable, role):
    upstream.answer = fussy = Fussy()
    text = {"type": "text", "text": "So."}
    asked: list[Any] = [{"type": "text", "text": "Weather?"}]
    turns = [
        {"role": "user", "content": [*asked, block] if role == "user" else asked},
        {"role": "assistant", "content": [text, block, text | {"text": "Then."}] if role == "assistant" else [text]},
        {"role": "user", "content": "And now?"},
    ]
    answer = post(web, gpt_alice.key, ask_gpt(messages=turns, tools=[TOOL]))
    assert answer.status_code == 200, answer.text
    one, other, _ = fussy.asked[0]["messages"]
    for part in readable:
        assert part in (one if role == "user" else other)["content"]
    assert SEAL[:60] not in json.dumps(fussy.asked)
    assert "So." in other["content"]


def test_the_results_of_claudes_tools_stay_between_its_texts():
    cited = {
        "type": "text",
        "text": "It ",
        "citations": [{"type": "web_search_result_location", "encrypted_index": SEAL}],
    }
    content = [
        {"type": "text", "text": "Let me look."},
        used("web_search", query="x"),
        found("web_search_tool_result", [HIT]),
        cited,
        {"type": "text", "text": "rains."},
    ]
    assert messages("?", content, "So?")[1]["content"] == (
        'Let me look.\n\n[server_tool_use: web_search {"query": "x"}]\n\n'
        "[web_search_tool_result]\ntitle: Rain\nurl: https://w.example/1\npage_age: 1 day\n\nIt rains."
    )


def test_a_summary_stands_for_all_before_it():
    summary = {"type": "compaction", "content": "They spoke of the weather.", "encrypted_content": SEAL}
    failed = {"type": "compaction", "content": None}
    turns: list[Any] = [
        "Old",
        [{"type": "text", "text": "Older"}, summary, failed, {"type": "text", "text": "Go on."}],
        "Now",
    ]
    for base_url in EVERYBODY:
        made = messages(*turns, base_url=base_url, system="Be brief.")
        assert made[0] == {"role": "system", "content": "Be brief."}
        assert [turn["role"] for turn in made[1:]] == ["user", "assistant", "user"]
        assert made[1]["content"] == "[compaction]\nThey spoke of the weather."
        assert "Old" not in json.dumps(made)
    # One that stopped after its summary.
    assert [turn["role"] for turn in messages("Old", [summary])] == ["user"]


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_a_turn_that_stopped_at_a_tool_of_anthropics_is_gone_on_with(base_url):
    made = messages("?", [{"type": "text", "text": "Look:"}, used("web_search", query="x")], base_url=base_url)
    assert [turn["role"] for turn in made] == ["user", "assistant", "user"]


# Instructions in mid-conversation


def system(content: Any, **members: Any) -> dict[str, Any]:
    return {"role": "system", "content": content, **members}


def roles(turns: list[dict[str, Any]]) -> list[str]:
    return [turn["role"] for turn in turns]


USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]}
HI: dict[str, Any] = {"role": "user", "content": "Hi"}
YES: dict[str, Any] = {"role": "assistant", "content": "Yes?"}
BLOCK = [{"type": "text", "text": "Now"}, {"type": "text", "text": "in German."}]


@pytest.mark.parametrize(
    ("turns", "texts"),
    [
        ([HI, system("S")], ["Hi\n\n<system>\nS\n</system>"]),
        ([system("S"), HI], ["S", "Hi"]),
        ([system("S"), system("T"), HI], ["S\n\nT", "Hi"]),
        ([HI, system("S"), system("T")], ["Hi\n\n<system>\nS\n</system>\n\n<system>\nT\n</system>"]),
        ([HI, system("S"), HI], ["Hi\n\n<system>\nS\n</system>\n\nHi"]),
        (
            [HI, YES, system(BLOCK), HI],
            ["Hi", "Yes?", "<system>\nNow\n</system>\n\n<system>\nin German.\n</system>\n\nHi"],
        ),
        ([HI, YES, system("S")], ["Hi", "Yes?", "<system>\nS\n</system>"]),
        ([HI, system(""), YES, HI], ["Hi", "Yes?", "Hi"]),
        ([HI, system([]), YES, HI], ["Hi", "Yes?", "Hi"]),
        ([HI, USE, RESULT, system("S")], ["Hi", None, "rain", "<system>\nS\n</system>"]),
        ([HI, USE, system("S"), RESULT], ["Hi", None, "rain", "<system>\nS\n</system>"]),
        ([HI, YES, system("S"), YES, HI], ["Hi", "Yes?", "<system>\nS\n</system>", "Yes?", "Hi"]),
    ],
)
def test_instructions_in_mid_conversation_reach_models_that_take_them_at_the_beginning_only(
    web, upstream, gpt_alice, turns, texts
):
    upstream.answer = fussy = Fussy()
    answer = post(web, gpt_alice.key, ask_gpt(messages=turns, tools=[TOOL]))
    assert answer.status_code == 200, answer.text
    assert [turn["content"] for turn in fussy.asked[0]["messages"]] == texts


@pytest.mark.parametrize("base_url", [VLLM, OLLAMA, GROQ, DEEPSEEK, GEMINI, MISTRAL])
def test_early_instructions_join_the_systems_prompt(base_url):
    first, *rest = sent(base_url, system="Be brief.", messages=[system("Be kind."), HI, system("S")])["messages"]
    assert first == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert roles(rest) == ["user"]


@pytest.mark.parametrize("base_url", [OPENAI, AZURE])
def test_instructions_stay_a_turn_of_their_own_where_they_may_be(base_url):
    made = sent(base_url, messages=[HI, system(BLOCK), HI])["messages"]
    assert made[1] == {"role": "system", "content": "Now\n\nin German."}
    assert roles(made) == ["user", "system", "user"]
    # Nothing may stand between a call and its result.
    made = sent(base_url, messages=[HI, USE, system("S"), RESULT])["messages"]
    assert roles(made) == ["user", "assistant", "tool", "user"]
    made = sent(base_url, messages=[HI, USE, RESULT, system("S"), YES, HI])["messages"]
    assert roles(made) == ["user", "assistant", "tool", "system", "assistant", "user"]


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_what_was_cached_of_a_conversation_stays_its_beginning(base_url):
    """Each turn only adds to what the last one sent."""
    turns = [HI, system("S"), USE, RESULT, system("T"), YES, HI]
    before: list[dict[str, Any]] = []
    for end in (2, 5, 7):
        made = sent(base_url, system="Be brief.", messages=turns[:end], tools=[TOOL])["messages"]
        assert made[: len(before)] == before
        before = made


def test_instructions_end_where_they_say_so():
    turns = [HI, system("Only now.", clear_at="next_user_message")]
    assert "Only now." in json.dumps(sent(messages=turns))
    assert "Only now." not in json.dumps(sent(messages=[*turns, YES, HI]))
    assert "Only now." in json.dumps(sent(messages=[HI, system("Only now.", clear_at="never"), YES, HI]))


def test_an_effort_in_mid_conversation_holds_for_its_turn():
    turns = [HI, system("S", output_config={"effort": "low"})]
    asked: Any = {"model": "gpt-5.2", "output_config": {"effort": "high"}}
    assert sent(messages=turns, **asked)["reasoning_effort"] == "low"
    assert sent(messages=[*turns, YES, HI], **asked)["reasoning_effort"] == "high"
    odd = [HI, system("S", output_config={"effort": "giant"})]
    assert refusal(messages=odd).startswith("messages.1.output_config.effort: ")
    odd = [HI, system("S", output_config={"format": {"type": "json_schema"}})]
    assert refusal(messages=odd).startswith("messages.1.output_config.format: ")
    assert refusal(messages=[HI, system("S", a_member_of_next_year=1)]).startswith("messages.1.a_member_of_next_year: ")
    image = {"type": "image", "source": PNG}
    assert refusal(messages=[HI, system([image])]).startswith("messages.1.content.0.type: ")


# Odd shapes


@pytest.mark.parametrize(
    "turns",
    [
        [USE, RESULT],
        [YES, HI],
        [system("S"), YES, HI],
        [YES, USE, RESULT],
        [HI, HI, USE, RESULT, HI],
        [HI, YES | {"content": []}, HI],
        [HI, YES | {"content": ""}, HI],
        [HI, YES | {"content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]}, HI],
        [HI, YES | {"content": [{"type": "redacted_thinking", "data": "x"}]}, HI],
        [HI, YES, HI | {"content": []}],
        [HI, YES, HI | {"content": ""}],
        [HI, YES, HI | {"content": [{"type": "fallback"}]}],
        [HI, YES | {"content": []}],
        [system("S")],
    ],
    ids=json.dumps,
)
def test_conversations_of_any_shape_are_what_strict_templates_take(web, upstream, gpt_alice, turns):
    upstream.answer = fussy = Fussy()
    answer = post(web, gpt_alice.key, ask_gpt(messages=turns, tools=[TOOL]))
    assert answer.status_code == 200, answer.text
    assert next(turn for turn in fussy.asked[0]["messages"] if turn["role"] != "system")["role"] == "user"


@pytest.mark.parametrize("base_url", EVERYBODY)
def test_the_first_turn_is_the_users_where_it_has_to_be(base_url):
    made = sent(base_url, messages=[USE, RESULT], tools=[TOOL])["messages"]
    assert roles(made)[0] == ("assistant" if base_url in (OPENAI, AZURE) else "user")
