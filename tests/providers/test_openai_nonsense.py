"""Each answer of an OpenAI-compatible provider is translated or refused."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import answer, completion, faults
from tests.support.openai_events import PLAIN, Event, blocks, translated
from tests.support.openai_provider import DONE, GPT, chunk, tool_call


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: {\n\n"],
        [b"data: []\n\n"],
        [b'data: {"choices": 7}\n\n'],
        [DONE],
        [chunk(tool_call(0, "{}")), chunk({}, "tool_calls"), DONE],
        [
            chunk(tool_call(0, '{"a": 1}', "t", "a")),
            chunk(tool_call(1, "{}", "t", "b")),
            chunk(tool_call(0, '{"n": 1}')),
        ],
        [b'data: {"choices": [' + b"[" * 100_000 + b"\n\n"],
        [b'data: {"choices": [{"delta": {"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}\n\n"],
    ],
)
def test_nonsense_is_no_stream(parts):
    with pytest.raises(ValueError):  # noqa: PT011
        translated(parts)


NAMES = [
    "id",
    "model",
    "choices",
    "usage",
    "error",
    "service_tier",
    "x_groq",
    "delta",
    "message",
    "finish_reason",
    "stop_reason",
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "tool_calls",
    "function_call",
    "extra_content",
    "index",
    "function",
    "name",
    "arguments",
    "type",
    "text",
    "thinking",
    "summary",
    "google",
    "thought",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "code",
    "status",
    "metadata",
    "raw",
    "detail",
    "audio",
    "transcript",
]
WORDS = ["", "text", "thinking", "stop", "error", "tool_calls", "model_not_found", "429", "{}", "\ud83d", "x"]
nonsense: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
parts = st.dictionaries(st.sampled_from(NAMES), nonsense, max_size=4)
completions = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {}, optional={"index": nonsense, "delta": parts, "message": parts, "finish_reason": nonsense}
            ),
            max_size=2,
        )
    },
    optional={"usage": parts, "error": nonsense, "id": nonsense, "model": nonsense},
)


def in_order(events: list[Event]) -> None:
    """Check that events are in Anthropic's order."""
    kinds = [kind.removeprefix("content_block_") for kind, _ in events if kind != "ping"]
    assert re.fullmatch(
        r"(message_start( start( delta)* stop)* message_delta message_stop"
        r"|(message_start( start( delta)* stop)*( start( delta)*)? )?error)",
        " ".join(kinds),
    ), kinds
    indexes = [data["index"] for kind, data in events if kind == "content_block_start"]
    assert indexes == list(range(len(indexes)))


@given(st.lists(completions | nonsense, max_size=4))
def test_any_answer_of_a_provider_is_translated_or_refused(said):
    bodies = [json.dumps(each).encode() for each in said]
    with contextlib.suppress(ValueError):
        events = translated([b"data: " + body + b"\n\n" for body in bodies] + [DONE])
        in_order(events)
    for body in bodies:
        with contextlib.suppress(ValueError):
            made = json.loads(answer.message(completion.read(body), PLAIN))
            assert made["type"] == "message"
        status, error = faults.of_answer(400, body, GPT, "")
        assert 400 <= status < 500
        assert isinstance(json.loads(error)["error"]["message"], str)


def test_numbers_that_json_does_not_have_are_passed_over():
    said = {"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [float("nan"), float("-inf")]}}
    assert blocks(translated([chunk(choices=[said]), chunk({}, "stop"), DONE])) == [{"type": "text", "text": "Hi"}]


def test_half_a_character_is_replaced():
    half = chunk({"content": "@"}).replace(b"@", b"a\\ud83d")
    assert blocks(translated([half, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a\ufffd"}]
    broken = chunk({"content": "@"}).replace(b"@", b"a\xff")
    assert blocks(translated([broken, chunk({}, "stop"), DONE])) == [{"type": "text", "text": "a\ufffd"}]
