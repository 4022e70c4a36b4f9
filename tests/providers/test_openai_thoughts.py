"""Thinking that a provider leaves in its text, and text that it calls thinking."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import answer, completion, dialects
from messages_api.providers.openai.expected import Expected
from messages_api.providers.openai.thoughts import MOST_KEPT, Thoughts
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import post, row
from tests.support.openai_events import blocks, decode, translated
from tests.support.openai_provider import DONE, GPT, USAGE, ask_gpt, chunk, chunks, issue_openai, tool_call
from tests.support.openai_provider import completion as whole_completion

R1 = "deepseek-ai/DeepSeek-R1"


def said(message: dict[str, Any], finish: str, expected: Expected) -> list[dict[str, Any]]:
    """The blocks of an answer in one piece, without signatures."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    read = completion.read(json.dumps({"choices": [choice], "usage": USAGE}).encode())
    return plain(json.loads(answer.message(read, expected))["content"])


def streamed(deltas: list[dict[str, Any]], finish: str, expected: Expected) -> list[dict[str, Any]]:
    return plain(blocks(translated([*map(chunk, deltas), chunk({}, finish), chunk(usage=USAGE), DONE], expected)))


def plain(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in block.items() if name != "signature"} for block in content]


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text}


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("tags", "written", "finish", "made"),
    [
        ("written", "<think>Hm.</think>Yes.", "stop", [thinking("Hm."), text("Yes.")]),
        ("written", " \n<think>\nHm, a < b.\n\n</think>\n\nYes. ", "stop", [thinking("Hm, a < b."), text("Yes. ")]),
        ("written", "<think>\n\n</think>\n\nYes.", "stop", [text("Yes.")]),
        ("written", "<think></thin k></think>Yes.</think>", "stop", [thinking("</thin k>"), text("Yes.</think>")]),
        ("written", " \n<thin", "stop", [text(" \n<thin")]),
        ("written", "\n\nYes. <think>no</think>", "stop", [text("\n\nYes. <think>no</think>")]),
        ("written", "Hm.</think>Yes.", "stop", [text("Hm.</think>Yes.")]),
        ("written", "<think>Hm. </thi", "length", [thinking("Hm. </thi")]),
        ("written", "<think>Yes.", "stop", [thinking("Yes."), text("Yes.")]),
        ("begun", "Hm.\n</think>\n\nYes.", "stop", [thinking("Hm."), text("Yes.")]),
        ("begun", "<think>Hm.</think>Yes.", "stop", [thinking("Hm."), text("Yes.")]),
        ("begun", "</think>Yes.", "stop", [text("Yes.")]),
        ("begun", " Yes. </thi", "stop", [text(" Yes. </thi")]),
        ("begun", "Hm, so", "length", [thinking("Hm, so")]),
        ("", "<think>Hm.</think>Yes.", "stop", [text("<think>Hm.</think>Yes.")]),
    ],
)
def test_thinking_between_tags_is_thinking_at_any_cut(tags, written, finish, made):
    expected = Expected(R1, stream=True, tags=tags)
    assert said({"content": written}, finish, expected) == made
    for size in range(1, len(written) + 1):
        parts = [written[at : at + size] for at in range(0, len(written), size)]
        assert streamed([{"content": part} for part in parts], finish, expected) == made


pieces_of_text = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "think>", "</", "\n", " ", "Hm", "Yes.", "👋"]), max_size=8
)


@given(st.data(), pieces_of_text, st.sampled_from(["written", "begun", ""]), st.sampled_from(["stop", "length"]))
def test_no_word_is_lost_and_an_answer_is_the_same_streamed_or_not(data, parts, tags, finish):
    written = "".join(parts)
    expected = Expected(R1, stream=True, tags=tags)
    places = sorted({0, len(written), *data.draw(st.lists(st.integers(0, len(written)), max_size=8))})
    cut = [{"content": written[start:end]} for start, end in itertools.pairwise(places)]
    one, other = said({"content": written}, finish, expected), streamed(cut, finish, expected)
    assert one == other
    everything = "".join(block[block["type"]] for block in one)
    assert all(everything.count(word) >= parts.count(word) for word in ("Hm", "Yes.", "👋"))


def test_thinking_that_never_ended_is_the_answer_even_if_the_client_hides_thinking():
    hidden = Expected(R1, stream=True, tags="written", shows_thinking=False)
    assert said({"content": "<think>Yes."}, "stop", hidden) == [text("Yes.")]
    assert streamed([{"content": "<think>Y"}, {"content": "es."}], "stop", hidden) == [text("Yes.")]
    assert said({"content": "<think>Hm.</think>Yes."}, "stop", hidden) == [text("Yes.")]


def test_a_server_that_takes_thinking_out_is_not_waited_for():
    expected = Expected(R1, stream=True, tags="begun")
    events = translated([chunk({"reasoning_content": "Hm."}), chunk({"content": "Yes, "})], expected)
    assert events[-1][1]["delta"] == {"type": "text_delta", "text": "Yes, "}


def test_the_text_that_is_kept_back_is_bounded():
    thoughts = Thoughts("begun")
    out = [one for _ in range(3) for one in thoughts.take("text", "x" * (MOST_KEPT // 2 + 1))]
    assert sum(len(words) for kind, words in out) == 3 * (MOST_KEPT // 2 + 1)
    assert {kind for kind, _ in out} == {"text"}


def test_a_tool_after_tags_that_never_closed():
    expected = Expected(R1, stream=True, tags="written")
    call = {"type": "tool_use", "id": "c", "name": "t", "input": {}}
    assert streamed([{"content": "<think>Hm."}, tool_call(0, "{}", "t", "c")], "tool_calls", expected) == [
        thinking("Hm."),
        call,
    ]
    begun = Expected(R1, stream=True, tags="begun")
    assert streamed([{"content": "Look."}, tool_call(0, "{}", "t", "c")], "tool_calls", begun) == [text("Look."), call]


@pytest.mark.parametrize(
    ("base_url", "model", "tags"),
    [
        ("http://127.0.0.1:8000/v1", R1, "begun"),
        ("http://127.0.0.1:11434/v1", "deepseek-r1:8b", "begun"),
        ("http://127.0.0.1:8000/v1", "qwen3-32b", "written"),
        ("http://127.0.0.1:8000/v1", "Qwen/Qwen3-30B-A3B-Thinking-2507", "begun"),
        ("http://127.0.0.1:8000/v1", "Qwen/QwQ-32B", "begun"),
        ("https://api.groq.com/openai/v1", "qwen/qwen3-32b", "written"),
        ("https://api.perplexity.ai", "sonar-reasoning-pro", "begun"),
        ("https://api.minimax.io/v1", "MiniMax-M2", "begun"),
        ("https://router.huggingface.co/v1", R1, "begun"),
        ("http://127.0.0.1:8000/v1", GPT, ""),
        ("http://127.0.0.1:8000/v1", "qwen3-coder-30b", ""),
        ("http://127.0.0.1:8000/v1", "llama-3.3-70b-instruct", ""),
        ("http://127.0.0.1:8000/v1", "mistral-small-2603", ""),
        ("https://api.deepseek.com", "deepseek-r1", ""),
        ("", "gpt-5", ""),
    ],
)
def test_a_dialect_names_the_models_that_think_in_their_text(base_url, model, tags):
    assert dialects.tags(base_url, model) == tags


MARKED: Any = {"extra_content": {"google": {"thought": True, "thought_signature": "c2ln"}}}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("finish", "calls", "kind"),
    [("stop", False, "text"), ("length", False, "thinking"), ("tool_calls", True, "thinking")],
)
def test_a_message_that_is_marked_as_a_thought_alone_is_the_answer(finish, calls, kind, hidden):
    expected = Expected("gemini-3-pro", stream=True, shows_thinking=not hidden)
    called = tool_call(0, "{}", "t", "c") if calls else {}
    made = [] if hidden and kind == "thinking" else [{"type": kind, kind: "It is four."}]
    made += [{"type": "tool_use", "id": "c", "name": "t", "input": {}}] if calls else []
    assert said({"content": "It is four.", **MARKED, **called}, finish, expected) == made
    deltas = [{"content": "It is ", **MARKED}, {"content": "four.", **MARKED}, called]
    assert streamed(deltas, finish, expected) == made


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_of_a_model_that_thinks_in_its_text_gets_both(web, upstream, served, stream):
    caller = issue_openai(upstream)
    words = "<think>\nHm.\n</think>\n\nParis."
    upstream.answer = pieces(200, chunks(*words)) if stream else whole(200, whole_completion(words))
    got = post(web, caller.key, ask_gpt(model=R1, stream=stream))
    content = plain(blocks(decode(got.content)) if stream else got.json()["content"])
    assert content == [thinking("Hm."), text("Paris.")]
    assert row().status == "completed"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_google_marks_as_a_thought_reaches_the_client(web, upstream, served, stream):
    caller = issue_openai(upstream)
    parts = [chunk({"role": "assistant", "content": "Four.", **MARKED}), *chunks()[1:]]
    upstream.answer = pieces(200, parts) if stream else whole(200, whole_completion("Four.", **MARKED))
    got = post(web, caller.key, ask_gpt(model="gemini-3-pro", stream=stream))
    assert (blocks(decode(got.content)) if stream else got.json()["content"]) == [text("Four.")]
