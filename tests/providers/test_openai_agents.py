"""Agents of Pydantic AI, which speak Anthropic's API, in front of an OpenAI-compatible provider only."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.profiles.anthropic import AnthropicModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider

from tests.support.fake_provider import cut, pieces, whole
from tests.support.gateway import rows
from tests.support.openai_provider import DONE, GPT, USAGE, chunk, completion, issue_openai, tool_call


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gpt_alice(served, upstream):
    return issue_openai(upstream)


class City(BaseModel):
    name: str
    people: int = 0


def weather(city: str) -> str:
    """Tell the weather of a city."""
    if city == "Atlantis":
        raise ModelRetry("there is no such city")
    return f"rain in {city}"


class Model:
    """A fake model behind chat completions: its turns one after another, each a text or the tools that it uses; whole,
    or in a stream that is cut anywhere. It refuses histories that no provider would take."""

    def __init__(self, *turns: str | list[tuple[str, str]], thinks: str = "") -> None:
        self.turns = turns
        self.thinks = thinks
        self.asked: list[dict[str, Any]] = []

    def __call__(self, seen: Any) -> Any:
        asked = json.loads(seen.body)
        if complaint := wrong(asked["messages"]):
            return whole(400, json.dumps({"error": {"message": complaint}}).encode())
        turn = self.turns[len(self.asked)]
        self.asked.append(asked)
        calls = [] if isinstance(turn, str) else turn
        text = turn if isinstance(turn, str) else None
        ids = [f"call_{len(self.asked)}_{number}" for number in range(len(calls))]
        finish = "tool_calls" if calls else "stop"
        if not asked.get("stream"):
            made = [
                {"id": each, "type": "function", "function": {"name": name, "arguments": arguments}}
                for each, (name, arguments) in zip(ids, calls, strict=True)
            ]
            more = {"tool_calls": made} if made else {}
            return whole(200, completion(text, finish, **more, **({"reasoning": self.thinks} if self.thinks else {})))
        parts = [chunk({"role": "assistant", "content": text, "reasoning": self.thinks or None})]
        for number, (each, (name, arguments)) in enumerate(zip(ids, calls, strict=True)):
            parts.append(chunk(tool_call(number, "", name, each)))
            parts += (chunk(tool_call(number, character)) for character in arguments)
        parts += [chunk({}, finish), chunk(usage=USAGE), DONE]
        return pieces(200, cut(b"".join(parts), random.Random(len(self.asked))))


def wrong(messages: list[dict[str, Any]]) -> str:
    """What OpenAI would refuse about a history, empty for nothing: every tool call is answered, right after it."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"{message['tool_call_id']} answers nothing"
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return f"{waiting} are not answered"
        waiting |= {call["id"] for call in message.get("tool_calls") or ()}
    return f"{waiting} are not answered" if waiting else ""


def run(web, caller, prompt="Go", stream=False, settings: Any = None, profile=None, **terms) -> Any:
    """What an agent answers, and the messages of its run. `profile`: what it may know of the model."""

    async def converse():
        provider = AnthropicProvider(base_url=f"{web.url}/pydanticai/anthropic", api_key=caller.key)
        given: Any = settings or {"max_tokens": 2048}
        model = AnthropicModel(GPT, provider=provider, settings=given, profile=profile)
        async with Agent(model, **terms) as agent:
            if not stream:
                answer = await agent.run(prompt)
                return answer.output, answer.all_messages()
            async with agent.run_stream(prompt) as streamed:
                async for _ in streamed.stream_output(debounce_by=None):
                    pass
                return await streamed.get_output(), streamed.all_messages()

    return asyncio.run(converse())


TWO_CITIES = [("weather", '{"city": "Köln"}'), ("weather", '{"city": "Atlantis"}')]


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_uses_tools_side_by_side_and_gets_their_errors(web, upstream, gpt_alice, stream):
    upstream.answer = model = Model(TWO_CITIES, "Rain, and none.")
    output, _ = run(web, gpt_alice, tools=[weather], stream=stream, system_prompt="Be brief.")
    assert output == "Rain, and none."
    assert [tool["function"]["name"] for tool in model.asked[0]["tools"]] == ["weather"]
    assert model.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    one, other = model.asked[1]["messages"][-2:]
    assert (one["tool_call_id"], one["content"]) == ("call_1_0", "rain in Köln")
    assert other["content"].startswith("Error: there is no such city")
    assert {entry.provider for entry in rows(2)} == {"openai"}


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_structured_output_comes_by_a_tool(web, upstream, gpt_alice, stream):
    upstream.answer = model = Model([("final_result", '{"name": "Köln", "people": 1000000}')])
    output, _ = run(web, gpt_alice, output_type=ToolOutput(City), stream=stream)
    assert output == City(name="Köln", people=1_000_000)
    assert model.asked[0]["tool_choice"] == "required"


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_structured_output_comes_by_a_schema(web, upstream, gpt_alice, stream):
    upstream.answer = model = Model('{"name": "Köln", "people": 1000000}')
    can = AnthropicModelProfile(supports_json_schema_output=True)
    output, _ = run(web, gpt_alice, output_type=NativeOutput(City), stream=stream, profile=can)
    assert output == City(name="Köln", people=1_000_000)
    wanted = model.asked[0]["response_format"]
    assert wanted["type"] == "json_schema"
    assert set(wanted["json_schema"]["schema"]["properties"]) == {"name", "people"}


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_sees_what_the_model_thought(web, upstream, gpt_alice, stream):
    upstream.answer = model = Model(TWO_CITIES[:1], "Rain.", thinks="Hm.")
    thinking: Any = {"max_tokens": 2048, "anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}}
    output, messages = run(web, gpt_alice, tools=[weather], stream=stream, settings=thinking)
    assert output == "Rain."
    thoughts = [part.content for message in messages for part in message.parts if isinstance(part, ThinkingPart)]
    assert thoughts == ["Hm.", "Hm."]
    assert "reasoning_effort" not in model.asked[0]  # GPT-4o has no such setting
    asked = next(message for message in model.asked[1]["messages"] if message.get("tool_calls"))
    assert asked["reasoning_content"] == "Hm."


def test_an_agents_usage_is_the_ledgers(web, upstream, gpt_alice):
    upstream.answer = Model("Hi")
    _, messages = run(web, gpt_alice)
    used = messages[-1].usage
    (entry,) = rows(1)
    assert (used.input_tokens, used.cache_read_tokens, used.output_tokens) == (100, 64, 7)
    assert (entry.input_tokens + entry.cache_read_input_tokens, entry.output_tokens) == (100, 7)


def test_an_agent_learns_that_there_is_no_such_model(web, upstream, gpt_alice):
    upstream.answer = whole(404, json.dumps({"error": {"message": "None.", "code": "model_not_found"}}).encode())
    with pytest.raises(ModelHTTPError) as caught:
        run(web, gpt_alice)
    assert caught.value.status_code == 404
    assert f"model: {GPT}" in str(caught.value)
