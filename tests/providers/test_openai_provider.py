"""An OpenAI-compatible provider behind the gateway, over real sockets: what the SDK gets, and what the ledger says."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from keys.models import ProviderKey
from keys.provider_keys import add_provider_key
from messages_api.answer.events import PING
from messages_api.providers import openai
from messages_api.providers.openai.expected import Expected
from tests.support.fake_provider import cut, pieces, whole
from tests.support.gateway import CLIENT, credentials, post, refused, row, rows, wait_until
from tests.support.gpt import ASKED, check_counted, sdk
from tests.support.gpt import gpt_alice as gpt_alice
from tests.support.openai_provider import (
    GPT,
    OPENAI_SECRET,
    USAGE,
    ask_gpt,
    chunk,
    chunks,
    completion,
    issue_openai,
    tool_call,
)
from usage.models import LedgerEntry


def test_the_sdk_gets_a_message_that_costs_what_it_costs(web, upstream, gpt_alice):
    upstream.answer = whole(
        200, completion("Grüße 👋"), ("x-request-id", "req_openai"), ("openai-organization", "acme")
    )
    with sdk(web, gpt_alice) as client:
        answer = client.messages.with_raw_response.create(**ASKED, metadata={"user_id": "u"})
    message = answer.parse()
    assert message.content[0].text == "Grüße 👋"
    assert (message.stop_reason, message.model, message.role) == ("end_turn", GPT, "assistant")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (36, 64)
    assert answer.headers["request-id"] == "req_openai"
    assert "openai-organization" not in answer.headers
    check_counted(entry := row())
    assert (entry.provider_request_id, entry.stop_reason) == ("req_openai", "end_turn")


def test_the_provider_gets_its_own_secret_and_no_header_of_anthropics(web, upstream, gpt_alice):
    upstream.answer = whole(200, completion())
    with sdk(web, gpt_alice) as client:
        client.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])
    seen = upstream.last
    assert (seen.method, seen.target) == ("POST", "/v1/chat/completions")
    assert seen.values("authorization") == [f"Bearer {OPENAI_SECRET}"]
    assert seen.values("content-type") == ["application/json"]
    assert seen.values("user-agent")[0].startswith("Anthropic/")
    assert not [name for name, _ in seen.headers if name.startswith((b"anthropic-", b"x-stainless", b"x-api-key"))]
    assert gpt_alice.key.encode() not in seen.head + seen.body


def test_azure_is_called_by_deployment_and_with_its_own_header(web, upstream, served):
    caller = issue_openai(upstream, path="/openai?api-version=2024-10-21")
    upstream.answer = whole(200, completion())
    assert post(web, caller.key, ask_gpt()).status_code == 200
    assert upstream.last.target == f"/openai/deployments/{GPT}/chat/completions?api-version=2024-10-21"
    assert upstream.last.values("api-key") == [OPENAI_SECRET]
    assert not upstream.last.values("authorization")


def test_the_sdk_streams_raw_and_with_its_helper(web, upstream, gpt_alice):
    upstream.answer = pieces(200, chunks("Grü", "ße 👋"), ("x-request-id", "req_openai"))
    with sdk(web, gpt_alice) as client:
        with client.messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == "Grüße 👋"
            final = stream.get_final_message()
        kinds = [each.type for each in client.messages.create(**ASKED, stream=True)]
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 36, 7)
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert json.loads(upstream.last.body)["stream_options"] == {"include_usage": True}
    for entry in rows(2):
        check_counted(entry)


async def test_a_provider_that_only_keeps_alive_keeps_the_client_alive(monkeypatch):
    class Quiet:
        status, headers = 200, [(b"content-type", b"text/event-stream")]

        def __init__(self):
            self.parts = [b": PROCESSING\n\n", b": PROCESSING\n\n", *chunks("Hi")]

        async def read(self):
            await asyncio.sleep(0)
            return self.parts.pop(0) if self.parts else b""

        def close(self):
            """Nothing is open."""

    async def first():
        return await (await openai.translate_answer(Quiet(), Expected(GPT, stream=True), None)).read()

    assert (await first()).startswith(b"event: message_start")
    monkeypatch.setattr(openai, "SILENCE", -1.0)
    assert await first() == PING


def test_streams_share_a_connection(web, upstream, gpt_alice):
    *said, end = pieces(200, chunks("Hi"))
    upstream.answer = [*said, 0.05, end]
    post(web, gpt_alice.key, ask_gpt(stream=True))
    before = upstream.connections
    for _ in range(3):
        assert b"message_stop" in post(web, gpt_alice.key, ask_gpt(stream=True)).content
    assert upstream.connections == before


@pytest.mark.parametrize("seed", range(5))
def test_the_helper_makes_tool_uses_of_a_stream_that_is_cut_anywhere(web, upstream, gpt_alice, seed):
    parts = [
        b": PROCESSING\r\n\r\n",
        chunk({"reasoning": "Both."}),
        chunk({"content": "Let me look. 👋"}),
        chunk(tool_call(0, "", "weather", "call_a")),
        chunk(tool_call(0, '{"city": "Kö')),
        chunk(tool_call(0, 'ln"}')),
        chunk(tool_call(1, '{"city": "Bonn"}', "weather", "call_b")),
        chunk({}, "tool_calls", usage=USAGE),
    ]
    upstream.answer = pieces(200, cut(b"".join(parts), random.Random(seed)), pause=0.002)
    with sdk(web, gpt_alice) as client, client.messages.stream(**ASKED) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Köln"}, {"city": "Bonn"}]
    assert final.stop_reason == "tool_use"
    check_counted(row())


def test_a_whole_answer_has_thinking_text_and_tools(web, upstream, gpt_alice):
    calls = [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}},
        {"id": "", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"id": "call_c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bo'}},
    ]
    upstream.answer = whole(200, completion("Look.", "tool_calls", reasoning_content="Hm.", tool_calls=calls))
    content = post(web, gpt_alice.key, ask_gpt()).json()["content"]
    assert content[0].pop("signature").startswith("unsigned_")
    assert content[:3] == [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "Look."},
        {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Köln"}},
    ]
    assert content[3]["id"].startswith("toolu_")
    assert content[3]["input"] == {}
    assert content[4]["input"] == {"INVALID_JSON": '{"city": "Bo'}


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_was_thought_about_goes_back_to_where_it_was(web, upstream, served, stream):
    issue_openai(upstream)
    keys = list(ProviderKey.objects.filter(name="compatible"))
    keys.append(
        add_provider_key(name="other", provider="openai", base_url=upstream.url + "/v1", secret="sk-other-secret")
    )
    bob = issue_openai(upstream, "bob", provider_keys=[(key, 1) for key in keys])
    upstream.answer = pieces(200, [chunk({"reasoning": "Hm.", "content": "Hi"}), *chunks()[1:]])
    if not stream:
        upstream.answer = whole(200, completion("Hi", reasoning="Hm."))
    with sdk(web, bob) as client:
        for number in range(8):
            first: Any = [{"role": "user", "content": f"number {number}"}]
            asked: Any = ASKED | {"messages": first}
            if stream:
                with client.messages.stream(**asked) as streamed:
                    answer = streamed.get_final_message()
            else:
                answer = client.messages.create(**asked)
            thought_by = upstream.last.values("authorization")
            # Another opening would go anywhere, but for what it carries.
            turns = [
                {"role": "user", "content": f"forgotten {number}"},
                {"role": "assistant", "content": answer.content},
            ]
            client.messages.create(**ASKED | {"messages": [*turns, {"role": "user", "content": "And?"}]}, stream=True)
            assert upstream.last.values("authorization") == thought_by


def test_a_client_that_turned_thinking_off_gets_no_thinking(web, upstream, gpt_alice):
    upstream.answer = whole(200, completion("Yes.", reasoning="Hm."))
    answer = post(web, gpt_alice.key, ask_gpt(thinking={"type": "disabled"})).json()
    assert answer["content"] == [{"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, (9, 0, 0, 2, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, (5, 4, 0, 2, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "num_cached_tokens": 4}, (5, 4, 0, 2, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 40}, (0, 9, 0, 2, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 5},
            },
            (1, 3, 5, 2, 0),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 30}, (9, 0, 0, 21, 19)),
    ],
)
def test_every_providers_way_to_count_ends_up_in_the_ledger(web, upstream, gpt_alice, usage, counts):
    upstream.answer = whole(200, completion(usage=usage))
    assert post(web, gpt_alice.key, ask_gpt()).status_code == 200
    entry = row()
    assert counts == (
        entry.input_tokens,
        entry.cache_read_input_tokens,
        entry.cache_creation_5m_input_tokens,
        entry.output_tokens,
        entry.thinking_tokens,
    )
    assert not entry.estimated


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": True}])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_usage_is_an_estimate_and_not_free(web, upstream, gpt_alice, stream, usage):
    plain = whole(200, completion("Hello " * 50, usage=usage))
    upstream.answer = pieces(200, chunks("Hello " * 50, usage=usage)) if stream else plain
    assert post(web, gpt_alice.key, ask_gpt(stream=stream)).status_code == 200
    entry = row()
    assert (entry.status, entry.estimated) == ("completed", True)
    assert entry.cost > 0
    assert entry.input_tokens > 0
    assert entry.output_tokens > 0


# What is refused


def test_a_request_that_can_not_be_expressed_is_never_sent(web, upstream, gpt_alice):
    said = refused(post(web, gpt_alice.key, ask_gpt(container="container_1")), 400, "invalid_request_error")
    assert said.startswith("container: ")
    assert not upstream.seen
    assert (row().status, row().estimated) == ("failed", False)
    assert row().cost == 0


def test_tokens_cannot_be_counted_there(web, upstream, gpt_alice):
    body = {name: value for name, value in ask_gpt().items() if name != "max_tokens"}
    said = refused(post(web, gpt_alice.key, body, "/v1/messages/count_tokens"), 404, "not_found_error")
    assert said.startswith("/v1/messages/count_tokens: ")
    assert not upstream.seen


def test_batches_and_files_are_not_kept_there(web, upstream, gpt_alice):
    batch = {"requests": [{"custom_id": "a", "params": ask_gpt()}]}
    assert post(web, gpt_alice.key, batch, "/v1/messages/batches").status_code == 404
    asked = CLIENT.get(web.url + "/v1/files", headers=credentials(gpt_alice.key))
    assert asked.status_code in (200, 404)
    assert not upstream.seen


def test_only_models_that_were_written_out_are_listed(web, upstream, served):
    caller = issue_openai(upstream, allowed_models=["gpt-4o-mini", "claude-*"])
    listed = CLIENT.get(web.url + "/v1/models", headers=credentials(caller.key)).json()
    assert [model["id"] for model in listed["data"]] == ["gpt-4o-mini"]


def test_many_calls_at_once_are_each_their_own(web, upstream, gpt_alice):
    def answer(seen):
        text = json.loads(seen.body)["messages"][0]["content"]
        return pieces(200, cut(b"".join(chunks(text)), random.Random(text)))

    upstream.answer = answer
    with sdk(web, gpt_alice) as client:
        for number in range(20):
            asked: Any = ASKED | {"messages": [{"role": "user", "content": f"number {number}"}]}
            with client.messages.stream(**asked) as stream:
                assert stream.get_final_text() == f"number {number}"
    assert wait_until(lambda: LedgerEntry.objects.filter(status="completed").count() == 20)
