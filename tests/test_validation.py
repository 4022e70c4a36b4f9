"""What is known to be wrong is refused before it costs money; docs/validation.md lists it, and nothing else is refused.

The oracle of the mutations is written from that page, not from the gateway's code.
"""

from __future__ import annotations

import copy
import json
import re
import typing
from pathlib import Path
from typing import Any

import anthropic.types as sdk
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages_api import batch_body, blocks, body, schema
from messages_api.errors import GatewayError
from tests.gateway import CLIENT, ROOT, ask, credentials, message, refused
from tests.recordings import FOLDER, needs_recordings
from tests.upstream import whole

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


@pytest.mark.parametrize(("members", "expected"), EXAMPLES, ids=lambda value: json.dumps(value)[:60])
def test_it_refuses_each_example_of_the_page_with_its_message(members, expected):
    assert judge(ask() | members, betas="another-2026-01-01") == expected


@pytest.mark.parametrize("member", ["mcp_servers", "output_format"])
def test_a_request_that_names_no_beta_is_left_to_the_provider(member):
    value = {
        "mcp_servers": [{"type": "url", "name": "docs", "url": "https://mcp.example"}],
        "output_format": {"type": "new"},
    }
    assert judge(ask() | {member: value[member]}) is None


@pytest.mark.parametrize(("text", "expected"), table("The body as a whole"))
def test_it_refuses_each_body_of_the_page_with_its_message(text, expected):
    assert judge(text.encode()) == expected


@pytest.mark.parametrize(("name", "expected"), table("What a request must have"))
def test_it_refuses_a_request_without_what_the_page_requires(name, expected):
    assert judge({other: value for other, value in ask().items() if other != name}) == expected


def test_the_page_is_what_the_endpoint_does(web, alice, upstream):
    headers = credentials(alice.key) | {"anthropic-beta": "another-2026-01-01"}
    for members, expected in EXAMPLES[::9]:
        answer = CLIENT.post(web.url + "/v1/messages", json=ask() | members, headers=headers)
        assert refused(answer, 400, "invalid_request_error") == expected
    assert not upstream.seen


def described(kind, path=""):
    """The path of every member that a type describes, as a pattern of those that `place` makes."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from described(each, path)
    elif isinstance(kind, msgspec.inspect.ListType):
        yield from described(kind.item_type, path)
    elif isinstance(kind, msgspec.inspect.StructType):
        tag = rf"\[{kind.tag}\]" if kind.tag and kind.tag_field == "type" else r"(\[\w+\])?"
        needs = getattr(kind.cls, "NEEDS", {})
        for field in kind.fields:
            if isinstance(field.type, msgspec.inspect.AnyType | msgspec.inspect.RawType) and not field.required:
                continue  # only looked at beside another, or to be required by a type (NEEDS)
            if field.name == "type" or not any(field.name in names for names in needs.values()):
                here = f"{path}{tag if path else ''}\\.{field.encode_name}"
                yield here
                # What has a type of its own in many places is shown in one of them.
                shared = field.name in ("cache_control", "source")
                if here != r"\.system":  # its blocks are those of messages
                    yield from described(field.type, rf".*\.{field.name}" if shared else here)
        for each, names in needs.items():
            yield from (rf"{path}\[{each or 'custom'}\]\.{name}" for name in names)


def place(request, path):
    """Where a message points to: names, and the type of each object on the way but the outermost."""
    at, found = request, ""
    for index, name in enumerate(path.split(".")):
        if name.isdigit():
            at = at[int(name)]
            continue
        if index and "type" in at and name != "type":
            found += f"[{at['type']}]"
        elif index and name != "type" and "role" not in at:
            found += "[custom]"
        found += f".{name}"
        at = at.get(name)
    return found


def test_every_rule_of_the_code_has_an_example_on_the_page():
    shown = {place(ask() | members, said.split(": ")[0]) for members, said in EXAMPLES}
    shown |= {re.sub(r"\[\w+\]$", "", each.rpartition(".")[0]) for each in shown}
    generic: Any = body.MessagesBody
    rules = set(described(msgspec.inspect.type_info(generic[blocks.blocks()])))
    assert len(rules) > 60
    assert {rule for rule in rules if not any(re.fullmatch(rule, each) for each in shown)} == set()


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
    "null for all that may be left out": dict.fromkeys(
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


@pytest.mark.parametrize("members", PASSES.values(), ids=PASSES.keys())
@pytest.mark.parametrize("counting", [False, True])
def test_what_is_not_known_to_be_wrong_passes(members, counting):
    assert judge(ask() | members, betas=BETAS, counting=counting) is None


def test_a_known_name_in_another_case_is_refused_wherever_a_request_is_read():
    for name in body.MessagesBody.__struct_fields__:
        for odd in {name.upper(), name.capitalize(), name.replace("s", "\u017f"), name.replace("k", "\u212a")} - {name}:
            for counting in (False, True):
                said = judge(ask() | {odd: None}, counting=counting)
                assert said == f"{name}: Expected this name in lower case, not {odd}"
    tool = {"name": "a", "input_schema": {"Model": 1}, "Ma\u212ae": 1, "description": "Grüße"}
    assert judge(ask(tools=[tool, {"type": "new", "Grüße": 1}])) is None
    assert judge(ask(tools=[tool | {"ma\u212ae": 1, "Max_U\u017fes": 1}])) == (
        "tools.0.max_uses: Expected this name in lower case, not Max_U\u017fes"
    )


def test_a_batch_refuses_a_known_name_in_another_case():
    one = {"custom_id": "a", "params": ask()}
    for batch, expected in (
        ({"requests": [one], "Requests": [one]}, "requests: "),
        ({"requests": [one | {"Params": {}}]}, "requests.0.params: "),
        ({"requests": [one | {"params": ask(Model="x")}]}, "requests.0.params.model: "),
        ({"requests": [one | {"params": ask(models=["x"])}]}, "requests.0.params.models: "),
    ):
        with pytest.raises(GatewayError, match=f"^{re.escape(expected)}(Expected this name|Not allowed)") as refusal:
            batch_body.read(json.dumps(batch).encode(), -1, signatures=False)
        assert refusal.value.status_code == 400


def test_a_count_does_not_need_or_judge_what_is_about_the_answer():
    request = {name: value for name, value in ask().items() if name != "max_tokens"}
    assert judge(request, counting=True) is None
    assert judge(request | {"temperature": 7, "container": 7}, counting=True) is None
    assert judge(request | {"tools": {}}, counting=True) == "tools: Expected array or null, got object"


def test_thinking_may_be_longer_than_the_answer_where_it_is_interleaved():
    request = ask(max_tokens=1024, thinking={"type": "enabled", "budget_tokens": 2048})
    assert judge(request) == "thinking.budget_tokens: Expected less than max_tokens"
    assert judge(request, betas="a-1, interleaved-thinking-2025-05-14") is None
    assert judge(request, counting=True) is None


def test_a_block_that_is_not_known_is_read_as_strictly_the_second_time():
    for kind in ("novelty", "Novelty!"):
        for _ in range(3):
            assert judge(request_of({"type": kind, "text": 7})) is None
            wrong = [{"type": kind}, {"type": "text"}]
            said = judge(ask(messages=[{"role": "user", "content": wrong}]))
            assert said == "messages.0.content.1.text: Field required"


def test_whoever_makes_types_up_teaches_the_gateway_only_so_much():
    for number in range(100):
        assert judge(request_of({"type": f"made_up_{number}"})) is None
    assert len(schema.readers[False].learnt) <= schema.Reader.LEARNT


@pytest.mark.parametrize("beta", ["mcp-client-2025-04-04", "a-1,mcp-client-2099-01-01", "a-1, mcp-client-2025-11-20"])
def test_any_version_of_a_beta_will_do(beta):
    request = ask() | {"mcp_servers": [{"type": "url", "name": "docs", "url": "https://mcp.example"}]}
    assert judge(request, betas=beta) is None
    assert judge(request, betas=f"not-{beta.replace(',', ',not-').replace(', not-', ',not-')}") is not None


def test_a_beta_may_come_in_a_header_of_its_own(web, alice, upstream):
    upstream.answer = whole(200, message())
    request = ask() | {"mcp_servers": [{"type": "url", "name": "docs", "url": "https://mcp.example"}]}
    headers = [*credentials(alice.key).items(), ("anthropic-beta", "one-1"), ("anthropic-beta", MCP_BETA)]
    assert CLIENT.post(web.url + "/v1/messages", json=request, headers=headers).status_code == 200
    assert json.loads(upstream.last.body) == request


def test_no_message_repeats_what_was_sent():
    secret = "a secret of Alice's"
    for members in (
        {"model": secret},
        {"messages": [{"role": secret, "content": secret}]},
        {"cache_control": {"type": secret}},
        {"tool_choice": {"type": secret}},
        {"fallbacks": secret},
        {"temperature": secret},
        {"system": [{"type": secret}, {secret: 1}]},
    ):
        said = judge(ask() | members)
        assert said is not None
        assert secret not in said


BLOCKS_OF_THE_SDK = {
    "text": sdk.TextBlockParam,
    "image": sdk.ImageBlockParam,
    "document": sdk.DocumentBlockParam,
    "tool_use": sdk.ToolUseBlockParam,
    "server_tool_use": sdk.ServerToolUseBlockParam,
    "tool_result": sdk.ToolResultBlockParam,
    "thinking": sdk.ThinkingBlockParam,
    "redacted_thinking": sdk.RedactedThinkingBlockParam,
    "search_result": sdk.SearchResultBlockParam,
    "container_upload": sdk.ContainerUploadBlockParam,
}


def required(kind):
    return {
        name
        for name, hint in kind.__annotations__.items()
        if "Required[" in str(hint.__forward_arg__ if isinstance(hint, typing.ForwardRef) else hint)
    }


def test_it_requires_of_a_block_what_the_sdk_requires():
    for block in blocks.CHECKED:
        tag = str(block.__struct_config__.tag)
        if tag not in BLOCKS_OF_THE_SDK:
            assert not any(field.required for field in msgspec.structs.fields(block))
            continue
        ours = {field.name for field in msgspec.structs.fields(block) if field.required}
        assert ours == required(BLOCKS_OF_THE_SDK[tag]) - {"type"}, tag


def recorded():
    """Every recorded request of the Messages API: its path, body and betas."""
    for file in sorted(Path(FOLDER, "anthropic").glob("*/*.json")):
        exchange = json.loads(file.read_text())
        path, request = exchange["path"].partition("?")[0], exchange["request_body"]
        if path in ("/v1/messages", "/v1/messages/count_tokens") and isinstance(request, dict):
            betas = exchange["request_headers"].get("anthropic-beta")
            yield f"{file.parent.name}/{file.stem}", path.endswith("count_tokens"), request, betas


@needs_recordings
def test_it_refuses_nothing_that_was_recorded():
    found = list(recorded())
    assert len(found) > 100
    for name, counting, request, betas in found:
        # Some sources took the header out.
        assert judge(request, betas=betas or BETAS, counting=counting) is None, name


# Mutations: requests that are right, with something in them changed.

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
WORDS = [
    "",
    "text",
    "image",
    "user",
    "tool",
    "enabled",
    "auto",
    "ephemeral",
    "1h",
    "base64",
    "default",
    "claude x",
    "é",
]
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    # Those without a fraction are integers.
    st.floats(-2, 2, allow_nan=False).filter(lambda number: not number.is_integer()),
    st.sampled_from(WORDS),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.fixed_dictionaries({"type": st.sampled_from(WORDS)}),
    st.lists(st.sampled_from([*WORDS, {"type": "text"}]), max_size=2),
)


def places(value, path=()):
    """Every member and element below it."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(request, data):
    """One change somewhere: a member replaced, taken away, put in, or moved."""
    path = data.draw(st.sampled_from(list(places(request))))
    at = request
    for key in path[:-1]:
        at = at[key]
    kind = data.draw(st.sampled_from(["replace", "replace", "remove", "insert", "wrap"]))
    if kind == "replace":
        at[path[-1]] = copy.deepcopy(data.draw(anything))
    elif kind == "remove":
        del at[path[-1]]
    elif kind == "wrap":
        at[path[-1]] = [at[path[-1]]]
    elif isinstance(at, list):
        at.insert(path[-1], copy.deepcopy(data.draw(anything)))
    else:
        name = data.draw(st.sampled_from(["type", "name", "cache_control", "source", "content", "x"]))
        at[name] = copy.deepcopy(data.draw(anything))


def a(kind, value, optional=True):
    """Whether it is of this kind; a boolean is no number."""
    if value is None:
        return optional
    if kind in (int, (int, float)) and isinstance(value, bool):
        return False
    return isinstance(value, kind)


def is_model(value):
    return isinstance(value, str) and re.fullmatch(r"[!-~]{1,200}", value) is not None


def is_cache_control(value):
    return value is None or (
        isinstance(value, dict) and value.get("type") == "ephemeral" and value.get("ttl") in (None, "5m", "1h")
    )


STRINGS = {
    "text": ["text"],
    "tool_use": ["id", "name"],
    "server_tool_use": ["id", "name"],
    "tool_result": ["tool_use_id"],
    "thinking": ["thinking", "signature"],
    "redacted_thinking": ["data"],
    "search_result": ["source", "title"],
    "container_upload": ["file_id"],
}
CACHEABLE = [*STRINGS.keys() - {"thinking", "redacted_thinking"}, "image", "document"]
SOURCES = {"base64": ["media_type", "data"], "text": ["media_type", "data"], "url": ["url"], "file": ["file_id"]}


def typed(value):
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def is_block(block):
    if not typed(block):
        return False
    kind = block["type"]
    if not all(isinstance(block.get(name), str) for name in STRINGS.get(kind, [])):
        return False
    if kind in CACHEABLE and not is_cache_control(block.get("cache_control")):
        return False
    if kind in ("thinking", "redacted_thinking", "fallback") and block.get("cache_control") is not None:
        return False
    if kind == "text" and not all_of(lambda each: isinstance(each, dict), block.get("citations")):
        return False
    if kind in ("document", "search_result") and not a(dict, block.get("citations")):
        return False
    if kind == "search_result" and not (isinstance(block.get("content"), list) and all(map(typed, block["content"]))):
        return False
    if kind in ("image", "document"):
        source = block.get("source")
        if not typed(source) or not all(isinstance(source.get(name), str) for name in SOURCES.get(source["type"], [])):
            return False
    if kind == "document" and not (a(str, block.get("title")) and a(str, block.get("context"))):
        return False
    if kind in ("tool_use", "server_tool_use") and not isinstance(block.get("input"), dict):
        return False
    if kind == "tool_result":
        content = block.get("content")
        inner = all(typed(each) for each in content) if isinstance(content, list) else a(str, content)
        return inner and a(bool, block.get("is_error"))
    return True


def is_content(content):
    return isinstance(content, str) or (isinstance(content, list) and all(is_block(block) for block in content))


def is_turn(turn):
    if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant", "system"):
        return False
    return is_content(turn["content"]) if "content" in turn else turn["role"] == "system"


def is_tool(tool):
    if not isinstance(tool, dict) or not a(str, tool.get("type")) or not is_cache_control(tool.get("cache_control")):
        return False
    kind = tool.get("type")
    if tool.get("defer_loading") is True and tool.get("cache_control") is not None:
        return False
    if kind in SEARCHES and tool.get("allowed_domains") and tool.get("blocked_domains"):
        return False
    if kind == "advisor_20260301":
        return is_model(tool.get("model"))
    return kind not in (None, "custom") or (
        isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), dict)
    )


SEARCHES = ["web_search_20250305", "web_search_20260209", "web_search_20260318"]


def is_choice(choice):
    if choice is None:
        return True
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        return False
    if choice["type"] == "tool" and not isinstance(choice.get("name"), str):
        return False
    return choice["type"] == "none" or a(bool, choice.get("disable_parallel_tool_use"))


def is_thinking(thinking):
    if thinking is None:
        return True
    if not typed(thinking):
        return False
    budget = thinking.get("budget_tokens")
    return thinking["type"] != "enabled" or (a(int, budget, optional=False) and budget >= 1024)


def is_server(server):
    return typed(server) and (
        server["type"] != "url" or (isinstance(server.get("name"), str) and isinstance(server.get("url"), str))
    )


def are_fallbacks(value):
    if value is None or value == "default":
        return True
    return isinstance(value, list) and (all(map(is_model, value)) or all(map(is_fallback, value)))


def is_fallback(value):
    return (
        isinstance(value, dict)
        and is_model(value.get("model"))
        and is_max_tokens(value.get("max_tokens"))
        and a(str, value.get("speed"))
        and is_thinking(value.get("thinking"))
        and is_output_config(value.get("output_config"))
    )


def is_max_tokens(value):
    return a(int, value) and 0 <= (value or 0) <= 10_000_000


def is_format(value):
    return value is None or (typed(value) and (value["type"] != "json_schema" or isinstance(value.get("schema"), dict)))


def is_output_config(value):
    return value is None or (
        isinstance(value, dict)
        and is_format(value.get("format"))
        and a(str, value.get("effort"))
        and a(dict, value.get("task_budget"))
    )


def leaves_room_to_speak(request):
    """Of a request with BETAS, among which is none for thinking between uses of tools."""
    thinking, limit = request.get("thinking"), request["max_tokens"]
    return (
        thinking is None
        or thinking["type"] != "enabled"
        or bool(request.get("tools") or request.get("mcp_servers"))
        or request.get("thread") is not None
        or limit == 0
        or thinking["budget_tokens"] < limit
    )


def go_together(request):
    get = request.get
    theirs = get("fallbacks") == "default" or any(isinstance(each, dict) for each in get("fallbacks") or ())
    return not (theirs and get("fallback_credit_token") is not None) and not (
        get("compaction") is not None and get("context_management") is not None
    )


def is_in_lower_case(request):
    """Stricter than the page: nothing here has a name in upper case that isn't a known one."""
    within = [request[name] for name in ("thinking", "cache_control") if request.get(name)]
    within += [each for name in ("tools", "fallbacks", "mcp_servers") for each in request.get(name) or ()]
    objects = [request, *(each for each in within if isinstance(each, dict))]
    return "models" not in request and all(name == name.lower() for each in objects for name in each)


def all_of(check, value):
    return value is None or (isinstance(value, list) and all(map(check, value)))


def within(low, high, value):
    return value is None or (a((int, float), value) and low <= value <= high)


def keeps_every_rule(request):
    """What the page says, in plain words."""
    get = request.get
    return (
        is_model(get("model"))
        and get("max_tokens") is not None
        and is_max_tokens(get("max_tokens"))
        and bool(get("messages"))
        and all_of(is_turn, get("messages"))
        and (get("system") is None or is_content(get("system")))
        and a(bool, get("stream"))
        and within(0, 1, get("temperature"))
        and within(0, 1, get("top_p"))
        and a(int, get("top_k"))
        and (get("top_k") or 0) >= 0
        and all_of(lambda each: isinstance(each, str), get("stop_sequences"))
        and a(dict, get("metadata"))
        and a(str, (get("metadata") or {}).get("user_id"))
        and all_of(is_tool, get("tools"))
        and is_choice(get("tool_choice"))
        and is_thinking(get("thinking"))
        and is_cache_control(get("cache_control"))
        and all_of(is_server, get("mcp_servers"))
        and are_fallbacks(get("fallbacks"))
        and a(str, get("service_tier"))
        and a(str, get("inference_geo"))
        and a(str, get("speed"))
        and all(a((str, dict), get(name)) for name in ("container", "fallback_credit_token"))
        and is_format(get("output_format"))
        and is_output_config(get("output_config"))
        and all(
            a(dict, get(name))
            for name in ("context_management", "diagnostics", "compaction", "thread", "billing_policy")
        )
        and all_of(typed, (get("context_management") or {}).get("edits"))
        and leaves_room_to_speak(request)
        and go_together(request)
        and is_in_lower_case(request)
    )


def requests():
    """Requests that are right: ours, and the recorded ones of a few kilobytes where they are there."""
    found = [request for _, counting, request, _ in recorded() if not counting] if FOLDER else []
    return RICH + [request for request in found if len(json.dumps(request)) < 4000]


REQUESTS = requests()


def test_the_oracle_knows_what_is_right_and_what_is_wrong():
    assert all(keeps_every_rule(request) for request in REQUESTS)
    headers = {"mcp_servers", "output_format"}
    for members, said in EXAMPLES:
        if not (said.split(":")[0] in headers and "Requires" in said) and "tool.definition" not in said:
            assert not keeps_every_rule(ask() | members), members


def check_mutations(web, alice, upstream, data, requests):
    request = copy.deepcopy(data.draw(st.sampled_from(requests)))
    for _ in range(data.draw(st.integers(1, 3))):
        if list(places(request)):
            mutate(request, data)
    upstream.seen.clear()
    sent = json.dumps(request).encode()
    headers = credentials(alice.key) | {"anthropic-beta": BETAS}
    answer = CLIENT.post(web.url + "/v1/messages", content=sent, headers=headers)
    if keeps_every_rule(request):
        assert answer.status_code == 200, answer.text
        fallbacks = request.get("fallbacks")
        ours = isinstance(fallbacks, list) and any(isinstance(each, str) for each in fallbacks)
        relayed = {name: value for name, value in request.items() if name != "fallbacks" or not ours}
        assert upstream.last.body == json.dumps(relayed).encode()
    else:
        refused(answer, 400, "invalid_request_error")
        assert not upstream.seen


FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=500, database=None, derandomize=True, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_a_mutated_request_is_refused_exactly_if_it_breaks_a_rule(web, alice, upstream, data):
    upstream.answer = whole(200, message())
    check_mutations(web, alice, upstream, data, RICH)


@pytest.mark.slow
@settings(max_examples=20_000, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_of_twenty_thousand_mutated_requests_none_that_breaks_a_rule_passes(web, alice, upstream, data):
    upstream.answer = whole(200, message())
    check_mutations(web, alice, upstream, data, REQUESTS)
