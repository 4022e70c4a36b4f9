"""Characters whose halves arrive in different chunks: a client gets whole ones."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai import answer, completion
from tests.support.openai_events import PLAIN, blocks, translated
from tests.support.openai_provider import DONE, USAGE, chunk


def said(member: str, units: str) -> bytes:
    """A chunk with these UTF-16 units, each half of a character escaped."""
    delta = (
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": units}}]}
        if member == "arguments"
        else {member: units}
    )
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def units(text: str) -> list[str]:
    encoded = text.encode("utf-16-le", "surrogatepass")
    return [encoded[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(encoded), 2)]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_text_cut_between_any_units_is_whole(text: str) -> None:
    parts = [*(said("content", unit) for unit in units(text)), chunk({}, "stop"), chunk(usage=USAGE), DONE]
    assert blocks(translated(parts)) == [{"type": "text", "text": text}]


def test_so_are_thinking_and_the_input_of_a_tool() -> None:
    first, second = units("😀")
    parts = [
        said("reasoning_content", "Hm " + first),
        said("reasoning_content", second + "!"),
        said("arguments", '{"x": "' + first),
        said("arguments", second + '"}'),
        chunk({}, "tool_calls"),
        DONE,
    ]
    thought, used = blocks(translated(parts))
    assert thought["thinking"] == "Hm 😀!"
    assert used["input"] == {"x": "😀"}


def test_the_halves_of_two_texts_are_not_mixed() -> None:
    first, second = units("😀")
    parts = [said("reasoning_content", first), said("content", second + "x"), chunk({}, "stop"), DONE]
    [text] = [block["text"] for block in blocks(translated(parts)) if block["type"] == "text"]
    assert text == "\ufffdx"


def test_a_single_half_is_replaced_and_breaks_nothing() -> None:
    first, second = units("😀")
    call = {"id": first, "function": {"name": "f" + second, "arguments": '{"x": "' + first + '"}'}}
    told = {"role": "assistant", "content": f"a{first}{second}b{first}", "tool_calls": [call]}
    body = json.dumps({"id": first, "model": second, "choices": [{"index": 0, "message": told}]})
    made = json.loads(answer.message(completion.read(body.encode()), PLAIN))
    assert (made["id"], made["model"]) == ("\ufffd", "\ufffd")
    text, used = made["content"]
    assert text["text"] == "a😀b\ufffd"
    assert (used["name"], used["input"]) == ("f\ufffd", {"x": "\ufffd"})
