"""`fallbacks` in a body: a list of strings is ours and is taken out, the rest of the body being as it was; Anthropic's
own forms go through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.json_text import byte_edits
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message

OURS = ["claude-haiku-4-5", "bedrock/claude-haiku-4-5"]
THEIRS = [
    "default",
    [{"model": "claude-haiku-4-5"}],
    [{"model": "claude-haiku-4-5", "max_tokens": 64}, {"model": "claude-opus-5"}],
    [],
    None,
]

space = st.text(st.sampled_from(" \t\n\r"), max_size=3)
NAMES = ["fallbacks", r"\u0066allbacks", r"fall\u0062ack\u0073"]
LIKE_IT = ["Fallbacks", "fallback", " fallbacks", r"fallbacks\\", r"\"fallbacks\"", "grüße", "", "x", r"\u00e9"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["fallbacks", '"fallbacks": ["a"],', "}", "]", "é\\"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["fallbacks", "a", '"', "{"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def bodies(draw):
    """An object with a member of that name somewhere at its top, and the same without it."""

    def member(name, value):
        written = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))
        return f'{draw(space)}"{name}"{draw(space)}:{draw(space)}{written}{draw(space)}'

    others = [member(name, draw(values)) for name in draw(st.lists(st.sampled_from(LIKE_IT), unique=True, max_size=4))]
    ours = member(draw(st.sampled_from(NAMES)), draw(st.lists(st.sampled_from(OURS), min_size=1)))
    at = draw(st.integers(0, len(others)))
    before, after = draw(space), draw(space)

    def body(members):
        return f"{before}{{{','.join(members)}}}{after}".encode()

    return body([*others[:at], ours, *others[at:]]), body(others)


@given(bodies())
def test_the_member_is_taken_out_and_every_other_byte_stays(pair):
    whole_body, expected = pair
    assert byte_edits.apply(whole_body, byte_edits.cut(whole_body, "fallbacks")) == expected


@given(bodies())
def test_a_body_without_the_member_is_as_it_was(pair):
    assert byte_edits.cut(pair[1], "fallbacks") == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("name", NAMES)
def test_our_list_does_not_reach_the_provider(web, alice, upstream, path, name):
    upstream.answer = whole(200, message())
    rest = json.dumps(ask(system='"fallbacks": ["a"]', metadata={"fallbacks": OURS}), ensure_ascii=False, indent=1)
    body = rest.replace("{", f'{{ "{name}" :\t{json.dumps(OURS)}\n,', 1)
    answer = CLIENT.post(web.url + path, content=body.encode(), headers=credentials(alice.key))
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == rest.encode()
    assert upstream.last.values("content-length") == [str(len(rest.encode()))]


@pytest.mark.parametrize("theirs", THEIRS, ids=json.dumps)
def test_anthropics_own_forms_go_through_as_they_are(web, alice, upstream, theirs):
    upstream.answer = whole(200, message())
    body = json.dumps(ask(fallbacks=theirs), indent=3).encode()
    answer = CLIENT.post(web.url + "/v1/messages", content=body, headers=credentials(alice.key))
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == body


@pytest.mark.parametrize("key", [r"\ud800", r"\udc00\ud800", r"\u0000"])
def test_names_that_are_no_text_do_no_harm(web, alice, upstream, key):
    upstream.answer = whole(200, message())
    body = json.dumps(ask(fallbacks=OURS)).replace("{", f'{{"{key}": 1, ', 1)
    answer = CLIENT.post(web.url + "/v1/messages", content=body.encode(), headers=credentials(alice.key))
    assert answer.status_code in (200, 400), answer.text
