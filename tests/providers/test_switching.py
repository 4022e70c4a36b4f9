"""A conversation goes on at another kind of provider, without thinking that only the gateway has signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import provider_keys
from keys.models import ProviderKey
from messages_api.json_text import byte_edits
from messages_api.request import minted
from tests.support.batch_provider import BatchProvider
from tests.support.clouds import issue_for
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import MODEL, Caller, Web, ask, issue, message, post
from tests.support.openai_provider import GPT, OPENAI_SECRET, completion

OURS = minted.signature()
THEIRS = "EuMD/+" + "ab" * 100 + "=="
USER = {"role": "user", "content": "Hello"}
TEXT = {"type": "text", "text": "Hé 👋"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"type": "thinking", "signature": OURS}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": OURS}]}
CALLED = {
    "azure": ("azure-api-key-0123456789abcdef", "/anthropic", {}),
    "bedrock": ("ABSK-bedrock-api-key-0123456789", "", {"region": "us-east-1"}),
}


def thought(signature: str = OURS, **members: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature} | members


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


# What a client sends back, and what of it a provider that signs its thinking may see.
TURNS = {
    "before text": ([said(thought(), TEXT)], [said(TEXT)]),
    "after text": ([said(TEXT, thought())], [said(TEXT)]),
    "between": ([said(TEXT, thought(), TOOL), RESULT], [said(TEXT, TOOL), RESULT]),
    "several": ([said(thought(), thought(), TEXT, thought(), TOOL, thought()), RESULT], [said(TEXT, TOOL), RESULT]),
    "beside the provider's own": ([said(thought(), thought(THEIRS), TEXT)], [said(thought(THEIRS), TEXT)]),
    "alone": ([said(thought()), USER], [USER]),
    "alone, as the last turn": ([said(TEXT), USER, said(thought())], [said(TEXT), USER]),
    "alone, twice": ([said(thought()), USER, said(thought(), thought()), USER], [USER, USER]),
    "in words": ([{"role": "assistant", "content": OURS}], [{"role": "assistant", "content": OURS}]),
    "of another form": ([said(thought(OURS + "0"), TEXT)], [said(thought(OURS + "0"), TEXT)]),
    "in capitals": ([said(thought(OURS.upper()), TEXT)], [said(thought(OURS.upper()), TEXT)]),
    "sealed": ([said({"type": "redacted_thinking", "data": THEIRS}, TEXT)],) * 2,
}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("indent", [None, 2], ids=["dense", "indented"])
@pytest.mark.parametrize(("turns", "left"), TURNS.values(), ids=TURNS)
def test_thinking_with_a_signature_of_ours_is_cut_out_and_nothing_else(
    web: Web, alice: Caller, upstream: Upstream, turns: Any, left: Any, indent: int | None, path: str
) -> None:
    upstream.answer = whole(200, message())
    body = json.dumps(ask(messages=[USER, *turns]), ensure_ascii=False, indent=indent).encode()
    answer = post(web, alice.key, body, path)
    assert answer.status_code == 200, answer.text
    seen = json.loads(upstream.last.body)
    assert seen == ask(messages=[USER, *left])
    assert all(turn["content"] for turn in seen["messages"])
    if indent is None:
        assert upstream.last.body == json.dumps(ask(messages=[USER, *left]), ensure_ascii=False).encode()
    if left == turns:
        assert upstream.last.body == body


HEAD = b'{"model":"%b","max_tokens":64,"messages":[{"role":"user","content":"Hello"}, ' % MODEL.encode()
ESCAPED = OURS.replace("u", r"\u0075", 1)
WRITTEN = {
    "the signature is escaped": f'{{"type":"thinking","thinking":"Hm.","signature":"{ESCAPED}"}}',
    "names are escaped": rf'{{"type":"thin\u006bing","thinking":"","sig\u006eature":"{OURS}"}}',
    "another order": f'{{"signature" :\t"{OURS}", "more": [{{"]": "}}"}}], "thinking":"","type":"thinking"}}',
    "a long number": f'{{"type":"thinking","thinking":"","signature":"{OURS}","n":{"9" * 5000}}}',
}


@pytest.mark.parametrize("block", WRITTEN.values(), ids=WRITTEN)
def test_a_signature_of_ours_is_known_however_it_is_written(
    web: Web, alice: Caller, upstream: Upstream, block: str
) -> None:
    upstream.answer = whole(200, message())
    kept = b' {"type":"text", "text":"[\\"}"}'
    body = HEAD + b'{"content":[%b,%b ] ,"role":"assistant"}]}' % (block.encode(), kept)
    assert post(web, alice.key, body).status_code == 200
    assert upstream.last.body == HEAD + b'{"content":[%b ] ,"role":"assistant"}]}' % kept.lstrip()


OTHER = {
    "another type": ('{"type":"text","text":"a","signature":"%s"}', ""),
    "a tool's input": ('{"type":"tool_use","id":"a","name":"t","input":{"type":"thinking","signature":"%s"}}', ""),
}


@pytest.mark.parametrize(("block", "more"), OTHER.values(), ids=OTHER)
def test_what_does_not_count_as_such_a_signature_passes(
    web: Web, alice: Caller, upstream: Upstream, block: str, more: str
) -> None:
    upstream.answer = whole(200, message())
    body = HEAD + f'{{"role":"assistant","content":[{block % OURS}]{more}}}]}}'.encode()
    assert post(web, alice.key, body).status_code == 200
    assert upstream.last.body == body


def without(body: bytes) -> bytes:
    return byte_edits.apply(body, minted.cuts(body))


@given(st.lists(st.lists(st.sampled_from([TEXT, TOOL, thought(), thought(THEIRS)]), min_size=1), max_size=6))
def test_what_is_left_of_a_conversation_is_the_same_in_each_of_its_requests(turns: list[list[Any]]) -> None:
    """What a request ends with aside, each begins as the one before it: providers cache by that."""
    messages: list[Any] = [USER]
    before = b""
    for turn in turns:
        messages += [said(*turn), USER]
        left = without(json.dumps({"messages": messages}).encode()).removesuffix(b"]}")
        assert left.startswith(before)
        assert b"unsigned" not in left.replace(json.dumps(TOOL).encode(), b"")
        before = left


def test_the_only_turns_stay() -> None:
    body = json.dumps({"messages": [said(thought())]}).encode()
    assert minted.cuts(body) == []


def test_what_is_nested_deeper_than_python_reads_passes() -> None:
    deep = "[" * 2000 + "]" * 2000
    assert minted.content(f'{{"content":[{{"type":"thinking","signature":"{OURS}","x":{deep}}}]}}'.encode()) == []


@pytest.fixture(params=["azure", "bedrock", "vertex"])
def cloud_alice(
    request: pytest.FixtureRequest, served: None, upstream: Upstream, service_account: Callable[[str], str]
) -> Caller:
    """Alice, whose Claude is at a cloud."""
    if request.param == "vertex":
        return issue_for("vertex", service_account("alice"), upstream.url, region="global")
    secret, path, terms = CALLED[request.param]
    return issue_for(request.param, secret, upstream.url + path, **terms)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_clouds_get_no_thinking_with_a_signature_of_ours(
    web: Web, cloud_alice: Caller, upstream: Upstream, path: str
) -> None:
    counts = path.endswith("count_tokens")
    upstream.answer = whole(200, b'{"inputTokens":9,"input_tokens":9}' if counts else message())
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    turns = [USER, said(thought(), TEXT), USER, said(thought()), USER]
    assert post(web, cloud_alice.key, ask(model=model, messages=turns), path).status_code == 200
    seen = json.loads(upstream.last.body)
    if "input" in seen:
        seen = json.loads(base64.b64decode(seen["input"]["invokeModel"]["body"]))
    assert seen["messages"] == [USER, said(TEXT), USER, USER]


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_each_request_of_a_batch_is_rid_of_it(web: Web, alice: Caller, upstream: Upstream, long: bool) -> None:
    upstream.answer = BatchProvider()
    words = {"role": "user", "content": "words " * (200_000 if long else 1)}
    several = [USER, said(thought()), USER, said(TEXT, thought())]
    turns = {"a": [words, said(thought(), TEXT)], "b": [USER], "c": several}
    left = {"a": [words, said(TEXT)], "b": [USER], "c": [USER, USER, said(TEXT)]}

    def batch(messages: dict[str, Any]) -> bytes:
        requests = [{"params": ask(messages=each), "custom_id": name} for name, each in messages.items()]
        return json.dumps({"requests": requests}, ensure_ascii=False).encode()

    answer = post(web, alice.key, batch(turns), "/v1/messages/batches")
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == batch(left)


@pytest.fixture
def second_upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def both(served: None, upstream: Upstream, second_upstream: Upstream) -> Caller:
    """Alice's key leads to a compatible provider first, and to Anthropic."""
    gpt = provider_keys.add_provider_key(
        name="compatible",
        provider="openai",
        base_url=second_upstream.url + "/v1",
        secret=OPENAI_SECRET,
        model_patterns=[GPT, "shared"],
    )
    claude = issue(upstream, "somebody").provider_key
    ProviderKey.objects.filter(pk=claude.pk).update(model_patterns=["claude-*", "shared"])
    return issue(None, provider_keys=[(gpt, 1_000_000), (claude, 1)])


def think(web: Web, caller: Caller, provider: Upstream, model: str = GPT) -> dict[str, Any]:
    """A turn of a model whose provider doesn't sign what it thinks."""
    provider.answer = whole(200, completion("Yes.", reasoning="Hm."))
    answer = post(web, caller.key, ask(model=model)).json()
    assert answer["content"][0]["signature"].startswith("unsigned_")
    return {"role": "assistant", "content": answer["content"]}


def test_a_session_goes_from_gpt_to_claude_and_back(
    web: Web, both: Caller, upstream: Upstream, second_upstream: Upstream
) -> None:
    turn = think(web, both, second_upstream)
    upstream.answer = whole(200, message())
    turns = [USER, turn, USER]
    assert post(web, both.key, ask(messages=turns)).status_code == 200
    assert json.loads(upstream.last.body)["messages"] == [USER, said({"type": "text", "text": "Yes."}), USER]
    assert post(web, both.key, ask(model=GPT, messages=turns)).status_code == 200
    assert [each["role"] for each in json.loads(second_upstream.last.body)["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("model", ["shared", GPT], ids=["a retry", "a fallback"])
def test_another_kind_of_provider_answers_for_one_that_fails(
    web: Web, both: Caller, upstream: Upstream, second_upstream: Upstream, model: str
) -> None:
    turn = think(web, both, second_upstream, model)
    second_upstream.answer = whole(529, b'{"error": {"message": "overloaded"}}')
    upstream.answer = whole(200, message("I can."))
    fallbacks: dict[str, Any] = {"fallbacks": [MODEL]} if model == GPT else {}
    answer = post(web, both.key, ask(model=model, messages=[USER, turn, USER], **fallbacks))
    assert answer.status_code == 200, answer.text
    assert answer.json()["content"][0]["text"] == "I can."
    assert b"unsigned" not in upstream.last.body


def test_where_a_tool_loop_needs_thinking_the_providers_words_arrive(
    web_once: Web, alice: Caller, upstream: Upstream
) -> None:
    words = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    upstream.answer = whole(400, json.dumps(error).encode())
    thinking = {"type": "enabled", "budget_tokens": 1024}
    tools = [{"name": "t", "input_schema": {"type": "object"}}]
    answer = post(
        web_once,
        alice.key,
        ask(messages=[USER, said(thought(), TOOL), RESULT], thinking=thinking, tools=tools, max_tokens=4096),
    )
    assert (answer.status_code, answer.json()) == (400, error)
    assert json.loads(upstream.last.body)["messages"][1] == said(TOOL)
