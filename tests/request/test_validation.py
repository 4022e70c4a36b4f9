"""Requests with known mistakes (docs/validation.md) are refused before they cost money, and no others."""

from __future__ import annotations

import json
import re
import typing
from typing import Any

import anthropic.types as sdk
import msgspec
import pytest

from messages_api.request import batch_body, blocks, body, schema
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, refused
from tests.support.recordings import needs_recordings
from tests.support.request_bodies import BETAS, EXAMPLES, MCP_BETA, PASSES, judge, recorded, request_of, table


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


@pytest.mark.parametrize("members", PASSES.values(), ids=PASSES.keys())
@pytest.mark.parametrize("counting", [False, True])
def test_a_request_without_a_known_mistake_passes(members, counting):
    assert judge(ask() | members, betas=BETAS, counting=counting) is None


def test_a_known_name_in_another_case_is_refused_in_each_object_that_is_read():
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


def test_a_client_that_invents_types_fills_only_a_bounded_memory():
    for number in range(100):
        assert judge(request_of({"type": f"made_up_{number}"})) is None
    assert len(schema.readers[False].learnt) <= schema.RequestReader.LEARNT


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


@needs_recordings
def test_it_refuses_nothing_that_was_recorded():
    found = list(recorded())
    assert len(found) > 100
    for name, counting, request, betas in found:
        # Some sources took the header out.
        assert judge(request, betas=betas or BETAS, counting=counting) is None, name
