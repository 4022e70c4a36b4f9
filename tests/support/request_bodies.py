"""Requests that are right or known to be wrong: the examples of docs/validation.md, recorded ones, and rich ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

from messages_api.request import schema
from messages_api.server.errors import GatewayError
from tests.support.gateway import ROOT, ask
from tests.support.recordings import FOLDER

PAGE = (ROOT / "docs" / "validation.md").read_text()
ROW = re.compile(r"^\| `(.+?)` \| (.+) \|$", re.MULTILINE)
MCP_BETA = "mcp-client-2025-04-04"
BETAS = f"{MCP_BETA}, structured-outputs-2025-11-13"


def table(heading):
    """The rows under a heading: what is sent, and the message."""
    return ROW.findall(PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0])


EXAMPLES = [
    (json.loads(members), message)
    for heading in ("Members", "Thinking", "Tools", "Messages", "Content blocks")
    for members, message in table(heading)
]


def judge(request, **terms):
    """The message of a refusal; None where it passes."""
    try:
        schema.parse(request if isinstance(request, bytes) else json.dumps(request).encode(), **terms)
    except GatewayError as error:
        return error.message if (error.status_code, error.kind) == (400, "invalid_request_error") else repr(error)
    return None


def request_of(block):
    return ask() | {"messages": [{"role": "user", "content": [block]}]}


PASSES = {
    "an unknown member": {"new_member": {"a": [1]}},
    "an unknown block": request_of({"type": "hologram", "text": 7}),
    "an unknown source": request_of({"type": "image", "source": {"type": "s3", "url": 7, "data": {}}}),
    "an unknown member of a block": request_of({"type": "text", "text": "", "citations": [], "new": 1}),
    "an unknown tool": {"tools": [{"type": "teleport_20270101", "name": 7, "input_schema": []}]},
    "a server's tool": {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]},
    "a toolset without a name": {"tools": [{"type": "browser_toolset_20260801"}]},
    "an unknown kind of thinking": {"thinking": {"type": "dreaming", "budget_tokens": "many"}},
    "adaptive thinking": {"thinking": {"type": "adaptive", "display": "summarized"}},
    "thinking between tools": {"thinking": {"type": "between_tools"}},
    "the least thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1025},
    "no thinking": {"thinking": {"type": "disabled"}},
    "more thinking than words, with tools": {
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "max_tokens": 1024,
        "tools": [{"type": "bash_20250124", "name": "bash"}],
    },
    "thinking where only the cache is filled": {
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "max_tokens": 0,
    },
    "fallbacks of ours with a credit token": {"fallbacks": ["claude-haiku-4-5"], "fallback_credit_token": "token"},
    "a cached tool that is loaded at once": {
        "tools": [{"name": "a", "input_schema": {}, "defer_loading": False, "cache_control": {"type": "ephemeral"}}]
    },
    "a search with an empty list": {
        "tools": [{"type": "web_search_20250305", "allowed_domains": ["a.example"], "blocked_domains": []}]
    },
    "null where thinking can't be cached": request_of(
        {"type": "thinking", "thinking": "…", "signature": "c2ln", "cache_control": None}
    ),
    "an unknown MCP server": {"mcp_servers": [{"type": "tunnel"}]},
    "no MCP servers": {"mcp_servers": []},
    "old structured output": {"output_format": {"type": "json_schema", "schema": {}}},
    "fallbacks of ours": {"fallbacks": ["claude-haiku-4-5", "bedrock/claude-haiku-4-5"]},
    "Anthropic's fallbacks": {"fallbacks": [{"model": "claude-haiku-4-5"}]},
    "Anthropic's default fallbacks": {"fallbacks": "default"},
    "no fallbacks": {"fallbacks": []},
    "a null user": {"metadata": {"user_id": None}},
    "other metadata": {"metadata": {"trace": {"a": 1}}},
    "a cached prefix": {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
    "a cached prefix with a null ttl": {"cache_control": {"type": "ephemeral", "ttl": None}},
    "a tool's result without content": request_of({"type": "tool_result", "tool_use_id": "toolu_1"}),
    "a tool's result of blocks": request_of(
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "new"}]}
    ),
    "a system message without content": {"messages": [{"role": "system", "clear_at": 7}]},
    "an answer that was begun": {"messages": [*ask()["messages"], {"role": "assistant", "content": "I"}]},
    "no parallel tools": {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    "null in all optional members": dict.fromkeys(
        [
            "system",
            "stream",
            "temperature",
            "top_p",
            "top_k",
            "stop_sequences",
            "metadata",
            "tools",
            "tool_choice",
            "thinking",
            "mcp_servers",
            "output_format",
            "output_config",
            "cache_control",
            "container",
            "fallbacks",
            "service_tier",
            "inference_geo",
            "context_management",
            "speed",
            "diagnostics",
            "compaction",
            "thread",
            "billing_policy",
            "fallback_credit_token",
        ]
    ),
}


def recorded():
    """Every recorded request of the Messages API: its path, body and betas."""
    for file in sorted(Path(FOLDER, "anthropic").glob("*/*.json")):
        exchange = json.loads(file.read_text())
        path, request = exchange["path"].partition("?")[0], exchange["request_body"]
        if path in ("/v1/messages", "/v1/messages/count_tokens") and isinstance(request, dict):
            betas = exchange["request_headers"].get("anthropic-beta")
            yield f"{file.parent.name}/{file.stem}", path.endswith("count_tokens"), request, betas


RICH = [
    ask(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        stream=False,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["END"],
        metadata={"user_id": "alice"},
        tools=[
            {"name": "search", "description": "Searches.", "input_schema": {"type": "object", "properties": {}}},
            {"type": "custom", "name": "read", "input_schema": {"type": "object"}, "strict": True},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3, "allowed_domains": ["a.example"]},
            {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5", "defer_loading": True},
        ],
        tool_choice={"type": "tool", "name": "search", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2048},
        cache_control={"type": "ephemeral"},
        fallbacks=["claude-haiku-4-5", "bedrock/claude-haiku-4-5"],
        service_tier="auto",
        container="container_1",
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {}}, "task_budget": {}},
        diagnostics={"previous_message_id": None},
        billing_policy={"bill_to": "self"},
        speed="fast",
    ),
    ask(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Grüße"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                    {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "T", "context": "C"},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "…", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "c2VhbGVk"},
                    {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {"q": "x"}},
                    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found", "is_error": False},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "x"}]},
                    {"type": "hologram", "depth": 3},
                    {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
                    {"type": "container_upload", "file_id": "file_1"},
                ],
            },
            {"role": "system", "content": "Mind the gap."},
        ],
        mcp_servers=[{"type": "url", "name": "docs", "url": "https://mcp.example"}],
        output_format={"type": "json_schema", "schema": {"type": "object"}},
        context_management={"edits": [{"type": "compact_20260112"}]},
        fallbacks="default",
    ),
    ask(
        fallbacks=[{"model": "claude-haiku-4-5", "max_tokens": 64, "speed": "fast", "thinking": {"type": "disabled"}}],
        tool_choice={"type": "auto"},
        thinking={"type": "adaptive"},
    ),
    ask(max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2048}, fallback_credit_token={"token": "t"}),
]
