"""The ids of tool calls: in Anthropic's form for clients, in its own for each provider."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import call_ids
from messages_api.providers.openai.dialects import dialect
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import post
from tests.support.openai_provider import DONE, ask_gpt, chunk, completion, issue_openai, tool_call
from tests.support.translation import EVERYBODY, KIMI, MISTRAL, TOOL

KIMIS = "functions.weather:0"


@pytest.mark.parametrize("stream", [False, True])
def test_an_id_that_claude_would_refuse_reaches_the_client_in_its_form_and_goes_back_as_it_was(
    web, upstream, served, stream
):
    alice = issue_openai(upstream)
    function = {"name": "weather", "arguments": "{}"}
    if stream:
        called = [chunk(tool_call(0, "{}", "weather", KIMIS)), chunk({}, "tool_calls"), DONE]
        upstream.answer = pieces(200, called)
    else:
        calls = [{"id": KIMIS, "type": "function", "function": function}]
        upstream.answer = whole(200, completion(None, "tool_calls", tool_calls=calls))
    told = post(web, alice.key, ask_gpt(stream=stream, tools=[TOOL]))
    [name] = re.findall(r'"type":"tool_use","id":"([^"]*)"', told.text)
    assert re.fullmatch("[a-zA-Z0-9_-]+", name)

    upstream.answer = whole(200, completion("Fine."))
    turns = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": name, "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": name, "content": "sunny"}]},
    ]
    assert post(web, alice.key, ask_gpt(messages=turns, tools=[TOOL])).status_code == 200
    _, asked, answered = json.loads(upstream.last.body)["messages"]
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"] == KIMIS


@given(own=st.text(min_size=1))
def test_any_id_has_a_form_for_clients_and_comes_back(own):
    name = call_ids.for_client(own, set())
    assert call_ids.ANTHROPICS.fullmatch(name)
    back = call_ids.for_provider(name, dialect(KIMI))
    assert back == own.encode("utf-8", "replace").decode()


@given(name=st.text(min_size=1) | st.from_regex(r"toolu_bf_[a-zA-Z0-9_=-]*", fullmatch=True))
def test_any_id_of_a_client_is_accepted(name):
    for base_url in EVERYBODY:
        spoken = dialect(base_url)
        made = call_ids.for_provider(name, spoken)
        assert made
        assert spoken.ids is None or spoken.ids.fullmatch(made)


def test_ids_are_unique():
    taken = set[str]()
    names = [call_ids.for_client(own, taken) for own in (KIMIS, KIMIS, "call_1", "call_1", None, "", 5)]
    assert len(set(names)) == len(names)
    assert call_ids.for_provider(names[0], dialect(MISTRAL)) != call_ids.for_provider(names[1], dialect(MISTRAL))
