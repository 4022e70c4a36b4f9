"""Anthropic's SDK and Pydantic AI against echo, recordings and trouble; test_client_generations.py has the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import anthropic
import pytest

from keys import issuing, pausing
from keys.models import Gateway
from tests.support.fake_provider import End, broken, pieces, whole
from tests.support.gateway import MODEL, events, message, row, rows
from tests.support.recordings import needs_recordings, recordings, streams

HELLO: Any = [{"role": "user", "content": "Hello there"}]


@contextlib.contextmanager
def client(web, key, **options):
    with anthropic.Anthropic(base_url=web.url, api_key=key, **({"max_retries": 0} | options)) as made:
        yield made


def text_of(answer):
    """Of its only block."""
    (block,) = answer.content
    return block.text


def test_the_sdk_gets_a_message(web, echo_alice):
    with client(web, echo_alice.key) as sdk:
        answer = sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    assert answer.content[0].text == "Hello there"
    assert answer._request_id == row().provider_request_id
    assert answer.usage.output_tokens == row().output_tokens


def test_the_sdk_streams_raw_and_with_its_helper(web, echo_alice):
    with client(web, echo_alice.key) as sdk:
        with sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO, stream=True) as raw:
            kinds = [each.type for each in raw]
        with sdk.messages.stream(model=MODEL, max_tokens=64, messages=HELLO) as helper:
            text = "".join(helper.text_stream)
            final = helper.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert text == final.content[0].text == "Hello there"
    assert {entry.output_tokens for entry in rows(2)} == {final.usage.output_tokens}


def test_the_sdk_calls_the_beta_namespace(web, echo_alice):
    with client(web, echo_alice.key) as sdk:
        answer = sdk.beta.messages.create(
            model=MODEL, max_tokens=64, messages=HELLO, betas=["context-1m-2025-08-07", "new-2026-12-01"]
        )
    assert answer.content[0].text == "Hello there"


def test_the_asynchronous_sdk_runs_many_calls_at_once(web, echo_alice):
    async def call_all():
        async with anthropic.AsyncAnthropic(base_url=web.url, api_key=echo_alice.key, max_retries=0) as sdk:

            async def create(number):
                messages: Any = [{"role": "user", "content": f"number {number}"}]
                answer = await sdk.messages.create(model=MODEL, max_tokens=64, messages=messages)
                return text_of(answer)

            async def stream(number):
                messages: Any = [{"role": "user", "content": f"number {number}"}]
                async with sdk.messages.stream(model=MODEL, max_tokens=64, messages=messages) as helper:
                    return "".join([text async for text in helper.text_stream])

            return await asyncio.gather(*(create(n) for n in range(20)), *(stream(n) for n in range(20, 40)))

    assert asyncio.run(call_all()) == [f"number {number}" for number in range(40)]
    assert len(rows(40)) == 40


@pytest.mark.wire(12)
def test_every_refusal_is_one_of_the_sdks_own_errors(web, echo_alice):
    wrong = echo_alice.key[:-1]
    with client(web, wrong) as sdk, pytest.raises(anthropic.AuthenticationError) as caught:
        sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    assert (caught.value.request_id or "").startswith("req_bf_")
    with client(web, echo_alice.key) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            sdk.messages.create(model=MODEL, max_tokens=-1, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError):
            sdk.models.retrieve("claude-nobody-has-it")
        with pytest.raises(anthropic.RateLimitError):
            sdk.messages.create(model=MODEL, max_tokens=64, messages=[{"role": "user", "content": "[echo error=429]"}])
        pausing.pause(echo_alice.virtual_key)
        with pytest.raises(anthropic.PermissionDeniedError, match="paused"):
            sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
        pausing.pause(Gateway.objects.get())
        pausing.resume(echo_alice.virtual_key)
        with pytest.raises(anthropic.APIStatusError, match="paused") as paused:
            sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
        assert paused.value.status_code == 503


def test_the_sdk_does_not_repeat_what_no_repetition_helps(web, upstream, alice):
    issuing.revoke(alice.virtual_key)
    with client(web, alice.key, max_retries=2) as sdk, pytest.raises(anthropic.AuthenticationError):
        sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    assert not upstream.seen


def test_the_sdk_repeats_what_the_provider_asks_it_to(web_once, upstream, alice):
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    answers = [
        whole(529, error, ("retry-after-ms", "1")),
        whole(529, error, ("retry-after-ms", "1")),
        whole(200, message()),
    ]
    upstream.answer = lambda seen: answers[len(upstream.seen) - 1]
    with client(web_once, alice.key, max_retries=2) as sdk:
        assert sdk.messages.create(model=MODEL, max_tokens=64, messages=HELLO).content[0].text == "Hi"
    assert [entry.status for entry in rows(3)] == ["refused_by_provider", "refused_by_provider", "completed"]


@pytest.mark.wire(9)
@pytest.mark.parametrize("end", list(End))
def test_the_sdk_raises_where_a_stream_broke_off(web, upstream, alice, end):
    body = b"".join(events("Grüße", "👋"))
    for offset in range(200, len(body) - 2, 97):
        upstream.answer = broken([body[:offset]], end)
        with (
            client(web, alice.key) as sdk,
            pytest.raises(anthropic.APIStatusError) as caught,
            sdk.messages.stream(model=MODEL, max_tokens=64, messages=HELLO) as helper,
        ):
            helper.get_final_message()
        assert caught.value.type == "api_error"


@needs_recordings
def test_the_sdk_reads_through_the_gateway_what_was_recorded(web, upstream, alice):
    chosen = [each for each in recordings() if each.status == 200 and not each.streams][::8]
    with client(web, alice.key) as sdk:
        for recording in chosen:
            upstream.answer = whole(200, recording.body)
            answer = sdk.beta.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
            assert answer.id == json.loads(recording.body)["id"], recording.name
        for recording in streams()[::4]:
            upstream.answer = pieces(200, [recording.body[at : at + 100] for at in range(0, len(recording.body), 100)])
            with sdk.beta.messages.create(model=MODEL, max_tokens=64, messages=HELLO, stream=True) as raw:
                kinds = [each.type for each in raw]
            assert kinds[0] == "message_start", recording.name
            # The SDK passes over an event that lacks its blank line, with or without a gateway.
            assert ("message_stop" in kinds) == recording.body.endswith(b"\n\n"), recording.name


@contextlib.asynccontextmanager
async def pydantic_model(web, key):
    """A model as Pydantic AI's users configure it."""
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    async with anthropic.AsyncAnthropic(base_url=web.url + "/pydanticai", api_key=key, max_retries=0) as sdk:
        yield AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=sdk))


def test_pydantic_ai_gets_text_and_streams_it(web, echo_alice):
    from pydantic_ai import Agent

    async def run():
        async with pydantic_model(web, echo_alice.key) as model:
            agent = Agent(model)
            answer = (await agent.run("Hello Bob")).output
            async with agent.run_stream("Hello Charlie") as streamed:
                return answer, await streamed.get_output()

    assert asyncio.run(run()) == ("Hello Bob", "Hello Charlie")
    assert len(rows(2)) == 2
