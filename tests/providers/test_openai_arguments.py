"""The arguments of tool calls, however a provider's chunks repeat them: what comes out is the JSON that was meant."""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.providers.openai.arguments import Arguments, may_be_json
from messages_api.providers.openai.events import EventTranslation
from tests.support.fake_provider import cut, pieces, whole
from tests.support.gateway import post, row
from tests.support.openai_events import PLAIN, blocks, decode, tools, translated, whole_blocks
from tests.support.openai_provider import DONE, GPT, USAGE, ask_gpt, chunk, completion, issue_openai, tool_call

texts = st.text(max_size=6) | st.sampled_from(['{"a":', '{"', "}", '"}', "\\", "👋", "haha"])
values = st.recursive(
    texts | st.integers(-99, 99) | st.floats(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
inputs = st.dictionaries(texts, values, max_size=3)


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces."""
    places = sorted({0, len(text), *draw(st.lists(st.integers(1, max(1, len(text) - 1)), max_size=5))})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def repeated(parts: list[str]) -> list[str]:
    """What a provider sends that says all of it again with each piece."""
    return list(itertools.accumulate(parts))


@given(st.data(), st.lists(inputs, min_size=1, max_size=3))
def test_arguments_that_are_said_again_with_every_chunk_are_said_once(data, given):
    lists = []
    for number, value in enumerate(given):
        fragments = repeated(data.draw(cuts(json.dumps(value))))
        if data.draw(st.booleans()):
            # At the end, and at times in between, there is nothing new.
            fragments.append(fragments[-1])
        if data.draw(st.booleans()):
            fragments.insert(0, "{}")
        ids = data.draw(st.sampled_from(["first", "all", "late", "none"]))
        names = ids != "none" and data.draw(st.booleans())
        lists.append(
            [
                tool_call(
                    number,
                    fragment,
                    f"t{number}" if not at or names else None,
                    f"c{number}" if ids == "all" or ids == ["first", "late"][bool(at)] else None,
                )
                for at, fragment in enumerate(fragments)
            ]
        )
    order = data.draw(st.permutations([number for number, each in enumerate(lists) for _ in each]))
    queues = [iter(each) for each in lists]
    made = {block["name"]: block["input"] for block in tools(*(next(queues[number]) for number in order))}
    assert made == {f"t{number}": value for number, value in enumerate(given)}


@given(st.data(), inputs)
def test_pieces_that_happen_to_repeat_are_not_lost(data, value):
    parts = data.draw(cuts(json.dumps(value)))
    (made,) = tools(*(tool_call(0, part, None if at else "t", "c") for at, part in enumerate(parts)))
    assert made["input"] == value


@pytest.mark.parametrize(
    ("fragments", "meant"),
    [
        (['{"a":', '{"a":', "1}}"], {"a": {"a": 1}}),
        (['{"a":', '{"a":1}'], {"a": 1}),
        (['{"a":', '{"a":', '{"a":1}'], {"a": 1}),
        (['{"', '{"', 'a": 1}'], {"a": 1}),
        (['{"', '{"', ": 1}"], {"{": 1}),
        (["{", '{"a', '{"a": "ha', '{"a": "haha"}'], {"a": "haha"}),
        (['{"a": "ha', "ha", "ha", '"}'], {"a": "hahaha"}),
        (['{"n": 1', '{"n": 11', '{"n": 11}'], {"n": 11}),
        (['{"n": 1', "1", "1}"], {"n": 111}),
        (["{}", '{"a": 1}'], {"a": 1}),
        (["{ }", "{}", '{"a"', ": 1}"], {"a": 1}),
        (["null", '{"a": 1}'], {"a": 1}),
        (["null", "null"], {}),
        (["[]", '{"a"', '{"a": 1}'], {"a": 1}),
        (["{}", "{}"], {}),
        (['{"a": 1}', '{"a": 1, "b": [2]}'], {"a": 1, "b": [2]}),
        (['{"city": "K"}', '{"city": "Köln"}', '{"city": "Köln"}'], {"city": "Köln"}),
        (['{"a": [{"b": ""}]}', '{"a": [{"b": "x"}, 2]}'], {"a": [{"b": "x"}, 2]}),
        (['{"a"', ":", " 1}", '{"a":1}'], {"a": 1}),
        (['{"a": 1}', ' {"a": 1}\n'], {"a": 1}),
        (['\n{"a', '\n{"a": 1}'], {"a": 1}),
        (['{"a": "line\n', '{"a": "line\nend"}'], {"INVALID": True}),
    ],
)
def test_what_was_meant_is_decided_by_what_makes_json(fragments, meant):
    call = Arguments()
    out = ""
    for fragment in fragments:
        call.take(fragment)
        out += call.new()
    call.finish()
    out += call.new()
    if "INVALID" in meant:
        assert out == fragments[-1]
    elif call.odd:
        assert meant == {}
    else:
        assert json.loads(out) == meant


def test_another_object_in_the_place_of_one_that_ended_is_no_stream():
    call = Arguments()
    call.take('{"a": 1}')
    with pytest.raises(ValueError, match="after a complete tool call"):
        call.take('{"b": 2}')


def test_repeated_arguments_are_sent_as_they_grow():
    events = EventTranslation(PLAIN)
    events.feed(chunk(tool_call(0, '{"a', "t", "c")))
    (one,) = decode(events.feed(chunk(tool_call(0, '{"a": "x', "t", "c"))))
    (other,) = decode(events.feed(chunk(tool_call(0, '{"a": "xy', "t", "c"))))
    assert [each[1]["delta"]["partial_json"] for each in (one, other)] == ['": "x', "y"]


def test_an_early_empty_input_waits_for_the_real_one_while_another_call_comes():
    one, other = tools(
        tool_call(0, "{}", "t", "a"), tool_call(1, "{}", "u", "b"), tool_call(0, '{"n": 1}'), tool_call(1, '{"n": 2}')
    )
    assert (one["input"], other["input"]) == ({"n": 1}, {"n": 2})


def test_repeated_arguments_with_a_new_id_in_every_chunk_are_one_call():
    (made,) = tools(*(tool_call(0, part, "t", id) for part, id in [('{"a', "x"), ('{"a": 1', "y"), ('{"a": 1}', "z")]))
    assert (made["id"], made["input"]) == ("x", {"a": 1})


def test_calls_without_index_and_id_that_are_said_again_are_one():
    (made,) = tools(tool_call(None, '{"a', "t"), tool_call(None, '{"a": 1', "t"), tool_call(None, '{"a": 1}', "t"))
    assert made["input"] == {"a": 1}


def test_an_early_empty_input_without_an_id_is_no_call_of_its_own():
    (made,) = tools(tool_call(0, "{}", "t"), tool_call(0, '{"a": 1}', "t"))
    assert made["input"] == {"a": 1}


@given(inputs)
def test_every_beginning_of_json_may_be_some(value):
    written = json.dumps(value)
    assert all(may_be_json(written[:end]) for end in range(1, len(written) + 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_client_gets_the_input_once_and_whole(web, upstream, served, seed):
    source = random.Random(seed)
    deltas = []
    given: Any = {"path": "a/b.py", "text": '{"x": "y"}\n' * 5}
    for number in range(2):
        written = json.dumps(given | {"n": number})
        places = sorted(source.sample(range(1, len(written)), 6))
        fragments = ["{}", *(written[:end] for end in places), written, written]
        deltas.append([tool_call(number, part, "write", f"call_{number}") for part in fragments])
    mixed = [delta for pair in zip(*deltas, strict=True) for delta in pair]
    body = b"".join([*map(chunk, mixed), chunk({}, "tool_calls"), chunk(usage=USAGE), DONE])
    upstream.answer = pieces(200, cut(body, source), pause=0.001)
    made = blocks(decode(post(web, issue_openai(upstream).key, ask_gpt(stream=True)).content))
    assert [(block["id"], block["input"]) for block in made] == [
        (f"call_{number}", given | {"n": number}) for number in range(2)
    ]
    assert (row().status, row().model) == ("completed", GPT)


CUT = '{"path": "notes.txt", "content": "half of'


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "length", None])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_whose_input_is_cut_is_not_to_be_used(web, upstream, served, finish, stream):
    alice = issue_openai(upstream)
    if stream:
        said = [chunk(tool_call(0, "", "write", "call_1")), chunk(tool_call(0, CUT))]
        upstream.answer = pieces(200, [*said, *([chunk({}, finish)] if finish else []), chunk(usage=USAGE), DONE])
    else:
        calls = [{"id": "call_1", "type": "function", "function": {"name": "write", "arguments": CUT}}]
        upstream.answer = whole(200, completion(None, finish or "", tool_calls=calls))
    told = post(web, alice.key, ask_gpt(stream=stream)).text
    assert re.findall(r'"stop_reason":"(\w+)"', told) == ["max_tokens"]
    assert row().stop_reason == "max_tokens"


@pytest.mark.parametrize("written", ['{"a": "he said "no"}', '{"a": 1}}', '{"a" 1}', '["a"', "half of"])
def test_input_that_is_broken_but_not_cut_is_used_as_it_is(written):
    """The client tells the model of it, which mends it."""
    said = [chunk(tool_call(0, written, "write", "call_1")), chunk({}, "tool_calls"), DONE]
    [(_, last)] = [event for event in translated(said) if event[0] == "message_delta"]
    assert last["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("pieces", [1, 3])
def test_arguments_that_are_json_in_a_string_are_read(pieces):
    meant = {"path": "a.py", "lines": [1, 2], "note": 'with "quotes"'}
    written = json.dumps(json.dumps(meant))
    size = -(-len(written) // pieces)
    cuts = [written[at : at + size] for at in range(0, len(written), size)]
    said = [chunk(tool_call(0, cuts[0], "write", "call_1")), *(chunk(tool_call(0, each)) for each in cuts[1:])]
    assert blocks(translated([*said, chunk({}, "tool_calls"), DONE]))[0]["input"] == meant
    call = {"id": "call_1", "type": "function", "function": {"name": "write", "arguments": written}}
    assert whole_blocks(call)[0]["input"] == meant


@pytest.mark.parametrize("written", ['"half of', '"no JSON"', '"[1]"', '""'])
def test_a_string_that_holds_no_object_is_passed_on_as_it_is(written):
    call = {"id": "call_1", "type": "function", "function": {"name": "write", "arguments": written}}
    assert whole_blocks(call)[0]["input"] == {"INVALID_JSON": written}
