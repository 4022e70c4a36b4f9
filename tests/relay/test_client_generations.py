"""The clients that people use, as they are installed, against the gateway; see docs/clients.md for the other ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from keys import issuing
from tests.support.fake_provider import broken, pieces, whole
from tests.support.gateway import MODEL, event, events, issue, message, rows

PREFIXES = ("", "/", "/anthropic", "/pydanticai/anthropic", "/pydanticai")
ASKED: Any = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}
TYPES = {
    400: ("invalid_request_error", anthropic.BadRequestError, 1),
    404: ("not_found_error", anthropic.NotFoundError, 1),
    413: ("request_too_large", anthropic.APIStatusError, 1),
    429: ("rate_limit_error", anthropic.RateLimitError, 3),
    500: ("api_error", anthropic.InternalServerError, 3),
    529: ("overloaded_error", anthropic.APIStatusError, 3),
}


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def failing(status, kind):
    body = {"type": "error", "error": {"type": kind, "message": "said the provider"}, "request_id": "req_up"}
    return whole(status, json.dumps(body).encode(), ("request-id", "req_up"), ("retry-after-ms", "1"))


@pytest.mark.wire(1)
@pytest.mark.wire(2)
@pytest.mark.parametrize("credential", ["api_key", "auth_token"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_it_answers_the_sdk_under_every_prefix_and_with_either_credential(web, upstream, alice, prefix, credential):
    upstream.answer = whole(200, message("Grüße 👋"), ("request-id", "req_up"))
    with Anthropic(base_url=web.url + prefix, **{credential: alice.key}) as client:
        answer = client.messages.create(**ASKED)
        beta = client.beta.messages.create(**ASKED, betas=["context-management-2025-06-27"])
    assert answer.content[0].text == beta.content[0].text == "Grüße 👋"
    assert answer._request_id == "req_up"
    assert upstream.last.values("anthropic-beta") == ["context-management-2025-06-27"]
    assert {entry.output_tokens for entry in rows(2)} == {7}


def test_it_serves_the_stream_helper_the_raw_stream_and_the_raw_response(web, upstream, alice):
    upstream.answer = pieces(200, events("Grü", "ße 👋"), ("request-id", "req_up"))
    with Anthropic(base_url=web.url, api_key=alice.key) as client:
        with client.messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == "Grüße 👋"
            assert stream.get_final_message().usage.output_tokens == 7
        kinds = [part.type for part in client.messages.create(**ASKED, stream=True)]
        with client.messages.with_streaming_response.create(**ASKED, stream=True) as raw:
            assert raw.headers["request-id"] == "req_up"
            assert raw.headers["x-bf-request-id"].startswith("req_bf_")
            assert next(raw.iter_lines()) == "event: message_start"
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def test_it_serves_the_asynchronous_sdk(web, upstream, alice):
    async def converse():
        async with AsyncAnthropic(base_url=web.url, api_key=alice.key) as client:
            upstream.answer = whole(200, message())
            answers = await asyncio.gather(*(client.messages.create(**ASKED) for _ in range(20)))
            upstream.answer = pieces(200, events("Hi", " there"))
            async with client.messages.stream(**ASKED) as stream:
                return len(answers), await stream.get_final_text()

    assert asyncio.run(converse()) == (20, "Hi there")
    rows(21)


@pytest.mark.wire(17)
def test_it_counts_tokens_for_the_sdk(web, upstream, alice):
    upstream.answer = whole(200, b'{"input_tokens": 14}')
    with Anthropic(base_url=web.url, api_key=alice.key) as client:
        assert client.messages.count_tokens(model=MODEL, messages=ASKED["messages"]).input_tokens == 14
        assert client.beta.messages.count_tokens(model=MODEL, messages=ASKED["messages"]).input_tokens == 14
    assert upstream.last.target.startswith("/v1/messages/count_tokens")


@pytest.mark.wire(11)
@pytest.mark.parametrize("status", TYPES)
def test_the_sdk_raises_as_it_would_at_the_provider_after_as_many_attempts(web, upstream, alice, status):
    kind, raised, calls = TYPES[status]
    upstream.answer = failing(status, kind)
    with Anthropic(base_url=web.url, api_key=alice.key) as client, pytest.raises(raised) as caught:
        client.messages.create(**ASKED)
    assert (caught.value.status_code, caught.value.type, caught.value.request_id) == (status, kind, "req_up")
    assert len(upstream.seen) == calls
    assert len(rows(1)[0].attempts) == calls


@pytest.mark.wire(11)
@pytest.mark.parametrize("status", [401, 402, 403])
def test_it_never_blames_the_caller_for_what_the_provider_says_about_our_key(web, upstream, alice, status):
    upstream.answer = failing(status, "authentication_error")
    with (
        Anthropic(base_url=web.url, api_key=alice.key, max_retries=0) as client,
        pytest.raises(anthropic.InternalServerError) as caught,
    ):
        client.messages.create(**ASKED)
    assert (caught.value.status_code, caught.value.type) == (503, "api_error")
    assert str(caught.value.request_id).startswith("req_bf_")


@pytest.mark.wire(12)
def test_it_refuses_in_one_request_what_no_repetition_changes(web, upstream, alice):
    narrow = issue(upstream, "narrow", allowed_models=["claude-haiku-*"])
    gone = issue(upstream, "gone")
    issuing.revoke(gone.virtual_key)
    for key, raised in ((narrow.key, anthropic.PermissionDeniedError), (gone.key, anthropic.AuthenticationError)):
        with Anthropic(base_url=web.url, api_key=key) as client, pytest.raises(raised) as caught:
            client.messages.create(**ASKED)
        assert caught.value.request.headers["x-stainless-retry-count"] == "0"
        assert caught.value.response.headers["x-should-retry"] == "false"
    assert upstream.seen == []


@pytest.mark.wire(9)
def test_the_sdk_raises_an_error_when_a_stream_is_cut_off(web, upstream, alice):
    upstream.answer = broken([*events("Hi")[:3], b"event: content_block_delta\ndata: {"])
    with Anthropic(base_url=web.url, api_key=alice.key) as client, pytest.raises(anthropic.APIStatusError) as caught:
        list(client.messages.create(**ASKED, stream=True))
    assert (caught.value.status_code, caught.value.type) == (200, "api_error")


class City(BaseModel):
    name: str
    people: int


def run(web, caller, prompt, model=MODEL, stream=False, **terms):
    """What an agent of Pydantic AI answers."""

    async def converse():
        provider = AnthropicProvider(base_url=f"{web.url}/pydanticai/anthropic", api_key=caller.key)
        settings: Any = {"max_tokens": 64}
        async with Agent(AnthropicModel(model, provider=provider, settings=settings), **terms) as agent:
            if not stream:
                return (await agent.run(prompt)).output
            async with agent.run_stream(prompt) as answer:
                return "".join([part async for part in answer.stream_text(delta=True, debounce_by=None)])

    return asyncio.run(converse())


def roll(sides: int) -> str:
    """Roll a die."""
    return f"4 of {sides}"


def test_it_runs_an_agent_that_uses_a_tool(web, upstream, alice):
    use = {"type": "tool_use", "id": "toolu_1", "name": "roll", "input": {"sides": 6}}
    called = message(content=[use], stop_reason="tool_use")
    upstream.answer = lambda seen: whole(200, message("It is 4.") if b"tool_result" in seen.body else called)
    assert run(web, alice, "Roll", tools=[roll]) == "It is 4."
    assert b"4 of 6" in upstream.last.body
    rows(2)


def test_it_streams_to_an_agent(web, upstream, alice):
    first, second, *others = events("Hi ", "there")
    upstream.answer = pieces(200, [first, second, event("ping"), *others])
    assert run(web, alice, "Hello", stream=True) == "Hi there"
    assert rows(1)[0].stream


def test_it_gives_an_agent_its_structured_output(web, echo_alice):
    assert isinstance(run(web, echo_alice, "Paris", model="echo-1", output_type=ToolOutput(City)), City)


def test_it_gives_an_agent_errors_with_their_status(web, upstream, alice):
    upstream.answer = failing(400, "invalid_request_error")
    with pytest.raises(ModelHTTPError) as caught:
        run(web, alice, "Hello")
    assert caught.value.status_code == 400
