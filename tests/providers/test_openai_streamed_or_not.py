"""A chat completion becomes the same answer, streamed or not."""

from __future__ import annotations

import itertools
import json
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import answer, completion
from tests.support.openai_events import PLAIN, Event, translated
from tests.support.openai_provider import DONE, GPT, USAGE, chunk, tool_call

words = st.text(max_size=12)
inputs = st.dictionaries(words, words | st.integers(-9, 9) | st.lists(words, max_size=2), max_size=2)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={
        "reasoning_content": words | st.none(),
        "content": words | st.none(),
        "refusal": words | st.none(),
        "tool_calls": st.lists(st.tuples(st.sampled_from(["t", "get_weather"]), inputs), max_size=3).map(
            lambda calls: [
                {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for number, (name, given) in enumerate(calls)
            ]
        ),
    },
)
finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call", "eos", "model_length"])


@st.composite
def streamed(draw: st.DrawFn, message: dict[str, Any], finish: str, usage: Any) -> list[bytes]:
    """The chunks of a message, as some provider might stream it, cut anywhere."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: part} for part in draw(cut_up(message.get(name) or ""))]
    numbered = draw(st.booleans())
    for number, call in enumerate(message.get("tool_calls") or []):
        index = draw(st.sampled_from([number, float(number)])) if numbered else None
        first, *rest = draw(cut_up(call["function"]["arguments"]))
        begun = tool_call(None, first, call["function"]["name"], call["id"])
        parts = [begun, *(tool_call(None, part, id=draw(st.sampled_from([None, "", call["id"]]))) for part in rest)]
        for part in parts if index is not None else ():
            part["tool_calls"][0]["index"] = index
        deltas += parts
    last = draw(st.sampled_from(["beside", "alone", "before"]))
    told = {"usage": usage} if last == "beside" else {}
    made = [chunk(delta) for delta in deltas] + [chunk({}, finish, **told)]
    if last == "alone":
        made.append(chunk(usage=usage))
    elif last == "before":
        made.insert(1, chunk(choices=None, usage=usage))
    body = b"".join(draw(st.permutations([b": ping\n\n", b"event: x\nid: 1\n"]))) + b"".join([*made, DONE])
    if draw(st.booleans()):
        body = body.replace(b"\n", b"\r\n")
    places = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=20))})
    return [body[start:end] for start, end in itertools.pairwise(places)]


@st.composite
def cut_up(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=4))})
    return [text[start:end] for start, end in itertools.pairwise(places)] or [text]


def accumulated(events: list[Event]) -> dict[str, Any]:
    """What Anthropic's SDK makes of a stream."""
    message: Any = None
    written: dict[int, bytes] = {}
    for kind, data in events:
        if kind != "ping":
            said: Any = data
            message = accumulate_event(event=said, current_snapshot=message, json_bufs=written)
    made: dict[str, Any] = message.to_dict()
    return made


@given(st.data(), messages, finishes)
def test_an_answer_is_the_same_streamed_or_not(data, message, finish):
    said = {"id": "chatcmpl-1", "model": GPT, "usage": USAGE}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    one = json.loads(answer.message(completion.read(json.dumps(said | {"choices": [choice]}).encode()), PLAIN))
    other = accumulated(translated(data.draw(streamed(message, finish, USAGE))))
    for made in (one, other):
        for block in made["content"]:
            if block["type"] == "thinking":
                assert block.pop("signature").startswith("unsigned_")
    members = ("id", "model", "role", "content", "stop_reason", "stop_sequence")
    assert [one[name] for name in members] == [other[name] for name in members]
    assert all(other["usage"][name] == count for name, count in one["usage"].items())
