"""Edits of a request's bytes, against what JSON makes of them: they do what they say, and no other byte changes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from messages_api.json_text import byte_edits
from messages_api.json_text.byte_edits import Edit, Edits, MemberPlaces

NAMES = ("model", "messages", "max_tokens", "fallbacks", "stream", 'a"b\\', "ü", "{", "")
spaces = st.text(" \n\t\r", max_size=2)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["}", '"', ",\\", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
Written = tuple[str, str, str]  # what is before a member's value, the value, and what is behind it


@st.composite
def bodies(draw: Any) -> tuple[str, dict[str, Written], str]:
    """A body with space in all places that allow it: the text before its members, each member as written, the end."""

    def written(value: Any, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=draw(st.booleans()), **how)

    members = {
        name: (
            f"{draw(spaces)}{written(name)}{draw(spaces)}:{draw(spaces)}",
            written(draw(values), indent=draw(st.sampled_from([None, 1]))),
            draw(spaces),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    }
    return draw(spaces) + "{", members, "}" + draw(spaces)


def whole(before: str, members: list[str], after: str) -> bytes:
    return (before + ",".join(members) + after).encode()


@given(bodies(), st.sets(st.sampled_from(NAMES)), st.dictionaries(st.sampled_from(NAMES), values), st.booleans())
def test_members_are_dropped_replaced_and_put_in_and_no_other_byte_changes(
    parts: tuple[str, dict[str, Written], str], dropped: set[str], replaced: dict[str, Any], inserts: bool
) -> None:
    before, members, after = parts
    if not members:
        before = before.strip()  # a place without members has no inside
        after = after.strip()
    body = whole(before, ["".join(member) for member in members.values()], after)
    edits = Edits(body).drop(*dropped)
    for name, value in replaced.items():
        edits.replace(name, json.dumps(value).encode())
    if inserts:
        edits.insert(b'"first":1')
    made = edits.apply()

    kept = {name: member for name, member in members.items() if name not in dropped}
    expected = ['"first":1'] if inserts else []
    for name, (head, value, space) in kept.items():
        expected.append(head + (json.dumps(replaced[name]) if name in replaced else value) + space)
    assert made == whole(before, expected, after)
    changed = {name: replaced.get(name, value) for name, value in json.loads(body).items() if name not in dropped}
    assert list(json.loads(made).items()) == [*({"first": 1} if inserts else {}).items(), *changed.items()]


@given(bodies(), st.data())
def test_what_changes_within_a_value_goes_with_what_changes_around_it(
    parts: tuple[str, dict[str, Written], str], data: st.DataObject
) -> None:
    before, members, after = parts
    body = whole(before, ["".join(member) for member in members.values()], after)
    edits, expected = Edits(body), dict[str, str]()
    for name, place in MemberPlaces.of(body).all().items():
        value = body[place.value : place.value_end]
        begin = data.draw(st.integers(0, len(value) - 1))
        end = data.draw(st.integers(begin + 1, len(value)))
        edits.add([Edit(place.value + begin, place.value + end, b"*")])
        expected[name] = (value[:begin] + b"*" + value[end:]).decode("latin-1")
        if data.draw(st.booleans()):
            edits.replace(name, b"0")
            expected[name] = "0"
        if data.draw(st.booleans()):
            edits.drop(name)
            del expected[name]
    made = edits.apply().decode("latin-1")
    heads = {name: member[0].encode().decode("latin-1") for name, member in members.items()}
    spaced = [heads[name] + value + members[name][2] for name, value in expected.items()]
    if members:
        assert made == before + ",".join(spaced) + after


@given(bodies(), st.lists(st.sampled_from(NAMES)))
def test_members_are_found_in_any_order_of_look_ups(
    parts: tuple[str, dict[str, Written], str], asked: list[str]
) -> None:
    before, members, after = parts
    body = whole(before, ["".join(member) for member in members.values()], after)
    found = MemberPlaces.of(body)
    for name in asked:
        place = found.find(name)
        assert (place is None) == (name not in members)
        if place is not None:
            head, value, space = (part.encode() for part in members[name])
            assert body[place.value : place.value_end] == value
            assert body[place.begin : place.end] == head + value + space
    assert list(found.all()) == list(members)
    assert byte_edits.all_places(body) == found.all()


def test_an_edit_within_another_one_does_not_count() -> None:
    body = b'{"tools":[{"name":"a"},{"name":"b"}],"model":"m"}'
    within = [Edit(31, 34, b'"B"'), Edit(10, 22, b"{}"), Edit(18, 21, b'"A"')]
    made = b'{"tools":[{},{"name":"B"}],"model":"m"}'
    assert Edits(body).add(within).apply() == made
    assert Edits(body).add(within).drop("tools").apply() == b'{"model":"m"}'
    assert Edits(body).replace("model", b'"n"').replace("model", b'"o"').apply().endswith(b'"model":"o"}')
