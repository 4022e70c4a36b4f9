"""What Claude Code sends by itself and clouds don't take is left out of the requests to them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from messages_api import providers
from messages_api.providers import bedrock, unsupported
from tests.support.clouds import issue_for
from tests.support.fake_provider import Seen, Upstream, whole
from tests.support.gateway import CLIENT, Caller, Web, ask, credentials, message, post

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
CLAUDE_CODE = (
    "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14,redact-thinking-2026-02-12,"
    "context-management-2025-06-27,prompt-caching-scope-2026-01-05,fast-mode-2026-02-01,advisor-tool-2026-03-01"
)
TAKEN = ["claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"]
COUNTING = "/v1/messages/count_tokens"
Paths = pytest.mark.parametrize("path", ["/v1/messages", COUNTING])


@pytest.fixture
def bedrock_alice(served: None, upstream: Upstream) -> Caller:
    return issue_for("bedrock", "ABSK-bedrock-api-key-0123456789", upstream.url, region="us-east-1")


@pytest.fixture
def vertex_alice(served: None, upstream: Upstream, service_account: Callable[[str], str]) -> Caller:
    return issue_for("vertex", service_account("alice"), upstream.url, region="global")


@pytest.fixture
def azure_alice(served: None, upstream: Upstream) -> Caller:
    return issue_for("azure", "azure-api-key-0123456789abcdef", upstream.url + "/anthropic")


@pytest.fixture(params=["bedrock", "vertex"])
def cloud_alice(request: pytest.FixtureRequest) -> Caller:
    caller: Caller = request.getfixturevalue(f"{request.param}_alice")
    return caller


def call(
    web: Web, caller: Caller, upstream: Upstream, body: dict[str, Any] | bytes, *betas: str, path: str = "/v1/messages"
) -> httpx.Response:
    """Call, each of these betas in a header of its own."""
    upstream.answer = whole(200, b'{"inputTokens":9,"input_tokens":9}' if path == COUNTING else message())
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = [*credentials(caller.key).items(), *(("anthropic-beta", each) for each in betas)]
    answer = CLIENT.post(web.url + path, content=content, headers=given)
    assert answer.status_code == 200, answer.text
    return answer


def inner(seen: Seen) -> bytes:
    """The body that a cloud got; of Amazon's CountTokens, the one within."""
    read = json.loads(seen.body)
    return base64.b64decode(read["input"]["invokeModel"]["body"]) if "input" in read else seen.body


def betas_of(seen: Seen) -> list[str]:
    told: list[str] = json.loads(inner(seen)).get("anthropic_beta") or []
    return told + [beta for given in seen.values("anthropic-beta") for beta in given.split(",")]


@pytest.mark.parametrize("given", [(CLAUDE_CODE,), (CLAUDE_CODE, CLAUDE_CODE), tuple(CLAUDE_CODE.split(","))])
def test_betas_that_a_cloud_does_not_take_stay_here(
    web: Web, cloud_alice: Caller, upstream: Upstream, given: tuple[str, ...]
) -> None:
    call(web, cloud_alice, upstream, ask(model=MODEL), *given)
    assert betas_of(upstream.last) == TAKEN


@pytest.mark.parametrize("member", ["anthropic_beta", "betas"])
def test_so_do_those_in_the_body(web: Web, cloud_alice: Caller, upstream: Upstream, member: str) -> None:
    call(web, cloud_alice, upstream, ask(model=MODEL) | {member: CLAUDE_CODE.split(",") * 2})
    assert betas_of(upstream.last) == TAKEN
    assert "betas" not in json.loads(inner(upstream.last))
    call(web, cloud_alice, upstream, ask(model=MODEL) | {member: ["mine", "theirs"]}, "theirs,ours")
    assert betas_of(upstream.last) == ["theirs", "ours", "mine"]
    call(web, cloud_alice, upstream, ask(model=MODEL) | {member: "nonsense"})
    assert betas_of(upstream.last) == []


@Paths
def test_betas_are_known_by_their_names_with_any_date(
    web: Web, bedrock_alice: Caller, upstream: Upstream, path: str
) -> None:
    given = "prompt-caching-scope-2027-03-04, oauth-20270304,fast-mode, advisor-tool-next-2026-01-01"
    call(web, bedrock_alice, upstream, ask(model=MODEL), given, path=path)
    assert betas_of(upstream.last) == ["advisor-tool-next-2026-01-01"]


def test_google_counts_tokens_without_betas(web: Web, vertex_alice: Caller, upstream: Upstream) -> None:
    edits: dict[str, Any] = {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}
    call(web, vertex_alice, upstream, ask(model=MODEL, **edits), CLAUDE_CODE, path=COUNTING)
    assert upstream.last.values("anthropic-beta") == []
    assert "context_management" not in json.loads(upstream.last.body)


def test_google_gets_no_effort_as_a_beta_and_no_diagnostics(web: Web, vertex_alice: Caller, upstream: Upstream) -> None:
    body = ask(model=MODEL, diagnostics={"previous_message_id": "msg_1"}, output_config={"effort": "high"})
    call(web, vertex_alice, upstream, body, "effort-2025-11-24,adaptive-thinking-2026-01-28,context-1m-2025-08-07")
    assert upstream.last.values("anthropic-beta") == ["context-1m-2025-08-07"]
    sent = json.loads(upstream.last.body)
    assert "diagnostics" not in sent
    assert sent["output_config"] == {"effort": "high"}


@pytest.mark.parametrize("cloud", ["bedrock", "azure"])
def test_a_cloud_without_the_switch_for_fast_mode_gets_none(
    web: Web, upstream: Upstream, request: pytest.FixtureRequest, cloud: str
) -> None:
    caller = request.getfixturevalue(f"{cloud}_alice")
    call(web, caller, upstream, ask(model=MODEL, speed="fast"), "fast-mode-2026-02-01")
    assert "speed" not in json.loads(inner(upstream.last))
    assert betas_of(upstream.last) == []


LINE = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=00000;"
YOU = {"type": "text", "text": "You are Claude Code \u2014 ☃.", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([{"type": "text", "text": LINE}, YOU], [YOU]),
        ([{"text": LINE, "type": "text"}, {"type": "text", "text": LINE.upper()}, YOU], [YOU]),
        ([{"type": "text", "text": f"{LINE}\n{YOU['text']}"}, YOU], [{"type": "text", "text": YOU["text"]}, YOU]),
        (
            [YOU, {"type": "text", "text": f"Never write {LINE}"}],
            [YOU, {"type": "text", "text": f"Never write {LINE}"}],
        ),
        ([{"type": "text", "text": LINE}], None),
        (f"{LINE}\n\nYou are ☃.", "You are ☃."),
        (LINE, None),
        ("You are ☃.", "You are ☃."),
    ],
)
@pytest.mark.parametrize("counts", [False, True])
def test_amazon_gets_nothing_of_what_claude_code_says_about_itself(system: Any, left: Any, counts: bool) -> None:
    body = json.dumps(ask(model=MODEL, system=system), ensure_ascii=False).encode()
    made, _ = bedrock.made_over(body, [], counts=counts)
    read = json.loads(made)
    read = json.loads(base64.b64decode(read["input"]["invokeModel"]["body"])) if counts else read
    assert read.get("system") == left
    assert ("system" in read) == (left is not None)
    assert read["messages"] == ask()["messages"]


SCOPED = {"type": "ephemeral", "scope": "global", "ttl": "1h"}
UNSCOPED = {"type": "ephemeral", "ttl": "1h"}
MINE = {"cache_control": {"scope": "mine"}, "defer_loading": True, "eager_input_streaming": True}


def everywhere(cache_control: Any, **of_tools: Any) -> dict[str, Any]:
    """A request that has it in each of its places, and in places where it means something else."""
    text = {"type": "text", "text": 'a "scope": }', "cache_control": cache_control}
    document = {"type": "document", "source": {"type": "content", "content": [text]}, "cache_control": cache_control}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text, document], "cache_control": cache_control}
    use = {"type": "tool_use", "id": "t", "name": "t", "input": MINE}
    schema = {"type": "object", "properties": MINE, "defer_loading": True}
    turns = [("user", text), ("assistant", use), ("user", result)]
    tools = [{**of_tools, "name": "t"}, {"name": "u", **of_tools}, {"name": "v", "cache_control": cache_control}]
    return ask(
        model=MODEL,
        cache_control=cache_control,
        system=[text],
        tools=[tool | {"input_schema": schema} for tool in tools],
        messages=[{"role": role, "content": [block]} for role, block in turns],
        metadata={"user_id": "defer_loading"},
    )


@Paths
def test_members_that_a_cloud_does_not_take_stay_here_at_any_depth(
    web: Web, cloud_alice: Caller, upstream: Upstream, path: str
) -> None:
    given = everywhere(SCOPED, eager_input_streaming=True)
    call(web, cloud_alice, upstream, given | {"context_management": {"edits": []}}, path=path)
    left = inner(upstream.last)
    call(web, cloud_alice, upstream, everywhere(UNSCOPED), path=path)
    assert left == inner(upstream.last)


def test_tools_that_are_to_be_loaded_later_are_there_at_once(web: Web, cloud_alice: Caller, upstream: Upstream) -> None:
    call(web, cloud_alice, upstream, everywhere(UNSCOPED, defer_loading=True), "advanced-tool-use-2025-11-20")
    left = inner(upstream.last)
    call(web, cloud_alice, upstream, everywhere(UNSCOPED))
    assert left == inner(upstream.last)


def test_what_comes_with_a_beta_that_a_cloud_knows_goes_out(web: Web, cloud_alice: Caller, upstream: Upstream) -> None:
    given = everywhere(UNSCOPED, defer_loading=True) | {"context_management": {"edits": []}}
    call(web, cloud_alice, upstream, given, "tool-search-tool-2025-10-19", "context-management-2025-06-27")
    seen = json.loads(upstream.last.body)
    assert seen["context_management"] == {"edits": []}
    assert [tool["defer_loading"] for tool in seen["tools"][:2]] == [True, True]


WRITTEN = {
    "escaped": (rb'"cache_control":{"sc\u006fpe":1,"type":"ephemeral"}', b'"cache_control":{"type":"ephemeral"}'),
    "last": (b'"cache_control": { "type":"ephemeral" , "scope":{"a":[]}}', b'"cache_control": { "type":"ephemeral"}'),
}


@pytest.mark.parametrize(("written", "left"), WRITTEN.values(), ids=WRITTEN)
def test_members_are_found_however_they_are_written_and_every_other_byte_stays(
    web: Web, cloud_alice: Caller, upstream: Upstream, written: bytes, left: bytes
) -> None:
    form = (
        b'{"system":[{"type":"text","text":"H\xc3\xa9 \\"scope\\":",%b }],"max_tokens":9,"messages":[%b],"model":"%b"}'
    )
    said = b'{"role" : "user","content":"Hello"}'
    call(web, cloud_alice, upstream, form % (written, said, MODEL.encode()))
    assert left + b" }]" in upstream.last.body
    assert said in upstream.last.body


def test_anthropic_gets_all_of_it(web: Web, alice: Caller, upstream: Upstream) -> None:
    body = json.dumps(everywhere(SCOPED, defer_loading=True) | {"model": "claude-opus-4-8"}, indent=1)
    body = body.replace('"cache_control": {\n   "type"', '"cache_control":{"type"')
    call(web, alice, upstream, body.encode(), CLAUDE_CODE, CLAUDE_CODE)
    assert upstream.last.body == body.encode()
    assert upstream.last.values("anthropic-beta") == [CLAUDE_CODE, CLAUDE_CODE]


def test_azure_gets_all_but_a_few_betas(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    body = json.dumps(everywhere(SCOPED), indent=1).encode()
    call(web, azure_alice, upstream, body, "effort-2025-11-24 ,effort-2025-11-24", "context-1m-2025-08-07")
    assert upstream.last.body == body
    assert upstream.last.values("anthropic-beta") == ["effort-2025-11-24 ,effort-2025-11-24", "context-1m-2025-08-07"]
    call(web, azure_alice, upstream, body, "effort-2025-11-24, oauth-2025-04-20", "fast-mode-2026-02-01")
    assert upstream.last.values("anthropic-beta") == ["effort-2025-11-24"]


@pytest.mark.parametrize(
    "said",
    [
        "The provided model doesn't support counting tokens.",
        "The provided model identifier is invalid.",
        "Invocation of model ID anthropic.claude-x with on-demand throughput isn\u2019t supported. Retry with an"
        " inference profile that contains this model.",
        "The model does not support the CountTokens operation.",
    ],
)
def test_that_amazon_counts_no_tokens_for_a_model_is_a_404(
    web: Web, bedrock_alice: Caller, upstream: Upstream, said: str
) -> None:
    upstream.answer = whole(400, json.dumps({"message": said}).encode(), ("x-amzn-requestid", "amazon-1"))
    answer = post(web, bedrock_alice.key, {"model": MODEL, "messages": ask()["messages"]}, COUNTING)
    assert (answer.status_code, answer.headers["request-id"]) == (404, "amazon-1")
    assert answer.json()["error"]["type"] == "not_found_error"
    assert answer.json()["error"]["message"].startswith("count_tokens: ")


def test_what_amazon_says_of_a_request_to_count_is_no_404(web: Web, bedrock_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(400, b'{"message": "messages.0: Malformed input."}')
    answer = post(web, bedrock_alice.key, {"model": MODEL, "messages": ask()["messages"]}, COUNTING)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


# The list


def table() -> list[str]:
    """The rows that docs/providers.md should have."""
    of_betas = [(one, f"beta `{one.name}-…`") for one in unsupported.BETAS]
    of_members = [(one, f"`{one.name}`") for one in unsupported.MEMBERS]
    rows = []
    for one, shown in (*of_betas, *of_members):
        if one.unless:
            shown += f", unless with {' or '.join(f'`{beta}-…`' for beta in one.unless)}"
        where = re.sub(r"^https://(github\.com/)?", "", one.source).removesuffix(".json")
        rows.append(f"| `{one.cloud}` | {shown} | [{where.split('/blob/')[0]}]({one.source}), {one.seen} |")
    return rows


def test_the_list_is_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "providers.md").read_text()
    section = page.partition("### What is left out for them\n")[2].partition("\n### ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == table()


def test_each_entry_names_a_cloud_a_source_and_a_date() -> None:
    for one in (*unsupported.BETAS, *unsupported.MEMBERS):
        assert providers.find(one.cloud).name == one.cloud
        assert one.source.startswith("https://")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.seen)
        assert unsupported.named(one.name) == one.name
