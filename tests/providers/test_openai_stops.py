"""Stop sequences at models that refuse them: the gateway ends the text there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import answer
from messages_api.providers.openai import completion as completions
from messages_api.providers.openai.expected import Expected
from tests.support.openai_events import blocks, last, translated
from tests.support.openai_provider import DONE, USAGE, chunk, completion, tool_call
from tests.support.translation import AZURE, OPENAI, VLLM, refusal, sent

XAI = "https://api.x.ai/v1"
SEQUENCES = ("</block>", "STOP")
CUT = Expected("asked-for", stream=True, stops=SEQUENCES, cuts=SEQUENCES)
TEXTS = st.lists(st.sampled_from(["</block>", "</blo", "ck>", "STOP", "ST", "OP", "yes ", "no ", "<"]), max_size=8)


@pytest.mark.parametrize(
    ("base_url", "model", "passed"),
    [
        (OPENAI, "gpt-5-mini", False),
        (OPENAI, "gpt-5.2-2025-12-11", False),
        (AZURE, "gpt-5.2", False),
        (OPENAI, "o4-mini", False),
        (OPENAI, "gpt-5-chat-latest", True),
        (OPENAI, "gpt-4.1", True),
        (OPENAI, "gpt-oss-120b", True),
        (VLLM, "qwen3-8b", True),
        (XAI, "grok-4.6", False),
        (XAI, "grok-4-fast-non-reasoning", True),
    ],
)
def test_only_models_that_refuse_them_do_not_get_them(base_url: str, model: str, passed: bool) -> None:
    made = sent(base_url, model=model, stop_sequences=list(SEQUENCES))
    assert made.get("stop") == (list(SEQUENCES) if passed else None)


def test_an_empty_sequence_is_refused_all_the_same() -> None:
    assert refusal(model="gpt-5-mini", stop_sequences=[""]) == "stop_sequences.0: Expected at least one character"


def ended(text: str) -> tuple[str, str, str | None]:
    """A text up to the first sequence, and why it ends."""
    places = [(at, sequence) for sequence in SEQUENCES if (at := text.find(sequence)) >= 0]
    if not places:
        return text, "end_turn", None
    at, sequence = min(places)
    return text[:at], "stop_sequence", sequence


@given(TEXTS, st.integers(1, 9))
def test_a_text_ends_at_the_first_sequence_however_it_is_cut(parts: list[str], size: int) -> None:
    text = "So: " + "".join(parts)
    chunks = [chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
    made = translated([*chunks, chunk({}, "stop"), chunk(usage=USAGE), DONE], CUT)
    left, reason, sequence = ended(text)
    assert blocks(made) == [{"type": "text", "text": left}]
    assert last(made)["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert last(made)["usage"]["output_tokens"] == USAGE["completion_tokens"]
    in_one = json.loads(answer.message(completions.read(completion(text)), CUT))
    assert [block["text"] for block in in_one["content"]] == [left]
    assert (in_one["stop_reason"], in_one["stop_sequence"]) == (reason, sequence)


def test_nothing_follows_a_sequence() -> None:
    deltas: list[dict[str, Any]] = [
        {"content": "yes STOP"},
        {"reasoning_content": "more"},
        tool_call(0, "{}", "f", "call_1"),
    ]
    made = translated([*map(chunk, deltas), chunk({}, "tool_calls"), DONE], CUT)
    assert blocks(made) == [{"type": "text", "text": "yes "}]
    assert last(made)["delta"]["stop_reason"] == "stop_sequence"


def test_what_only_looked_like_a_sequence_comes_before_what_follows() -> None:
    deltas: list[dict[str, Any]] = [{"content": "yes ST"}, tool_call(0, "{}", "f", "call_1")]
    made = blocks(translated([*map(chunk, deltas), chunk({}, "tool_calls"), DONE], CUT))
    assert [block.get("text", block["type"]) for block in made] == ["yes ST", "tool_use"]
